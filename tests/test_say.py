from flaxformer_lite.say import say


def test_say_writes_to_standard_error(capsys):
    say("compiling …")
    assert capsys.readouterr() == ("", "compiling …\n")
