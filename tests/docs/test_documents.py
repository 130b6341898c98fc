"""The form of the documents: length, links, and the test command."""

import re

from tests.docs.documents import documents

_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_QUICK_SUITE = 'pytest -m "not slow" -n 2 --dist loadfile'


def test_readme_has_at_most_800_words_of_prose(repository):
    text = (repository / "README.md").read_text("utf-8")
    for pattern in (r"^```.*?^```$", r"<!--.*?-->", r"^\|.*?$", r"\]\([^)]*\)"):  # code, markers, tables, addresses
        text = re.sub(pattern, " ", text, flags=re.MULTILINE | re.DOTALL if "```" in pattern else re.MULTILINE)
    assert 300 < len(text.split()) <= 800


def test_readme_and_gate_run_the_same_tests(repository):
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        assert _QUICK_SUITE in (repository / name).read_text("utf-8"), name


def test_links_lead_to_files_and_headings(repository):
    for document in documents(repository):
        for target, heading in _LINK.findall(document.read_text("utf-8")):
            if target.startswith("http"):
                continue
            linked = (document.parent / target).resolve() if target else document
            assert linked.exists(), f"{document.name}: {target}"
            if heading:
                assert heading in _anchors(linked), f"{document.name}: {target}#{heading}"


def test_index_links_to_every_page(repository):
    pages = {path.name for path in (repository / "docs").glob("*.md")} - {"index.md"}
    index = (repository / "docs" / "index.md").read_text("utf-8")
    assert pages <= {target for target, _ in _LINK.findall(index)}


def test_lines_have_at_most_120_columns(repository):
    for document in documents(repository):
        for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
            assert len(line) <= 120 or line.startswith("|"), f"{document.name}:{number}"


def _anchors(document):
    """The anchors of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
