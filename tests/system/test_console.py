import logging


def test_messages_go_to_standard_error(capsys):
    logging.getLogger("flaxformer_lite.training").info("compiling …")
    assert capsys.readouterr() == ("", "compiling …\n")
