from hypothesis import given
from hypothesis import strategies as st

from allready.agents.definitions import AgentDefinition
from allready.agents.router import Router, words_of

REVIEWER = AgentDefinition("code-reviewer", description="Reviews code for bugs", tools=("Read", "Grep"))
SEARCHER = AgentDefinition("scout", description="Finds facts", tools=("WebSearch", "WebFetch"))
WRITER = AgentDefinition("writer", description="Writes a report, in plain words", kind="command")
ROUTER = Router([REVIEWER, SEARCHER, WRITER])


def test_the_most_words_in_common_win() -> None:
    assert ROUTER.route("Report", "Put the facts into plain words") == "writer"
    assert ROUTER.route("", "Which bugs has this code?") == "code-reviewer"


def test_tools_count_word_by_word() -> None:
    assert ROUTER.route("", "Search the web for prices") == "scout"


def test_among_equals_the_first_wins() -> None:
    assert ROUTER.route("", "bugs and facts") == "code-reviewer"
    assert Router([SEARCHER, REVIEWER]).route("", "bugs and facts") == "scout"


def test_with_nothing_in_common_the_first_does_it() -> None:
    assert ROUTER.route("", "Zebra") == "code-reviewer"
    assert str(ROUTER.explain("", "Zebra")).startswith("code-reviewer: the first one")


def test_without_agents_there_is_nobody() -> None:
    assert Router([]).route("Anything", "at all") is None
    assert str(Router([]).explain("", "x")) == "no agent is defined"


def test_templates_and_stop_words_do_not_count() -> None:
    assert words_of("Review {{ facts.output }} {% if plain %}and{% endif %} a TaskFile, für Öl") == {
        "review",
        "für",
    }
    assert ROUTER.route("", "{{ facts.output }}") == "code-reviewer"


def test_the_choice_can_be_explained() -> None:
    routing = ROUTER.explain("Report", "Put the facts into plain words")
    assert routing.agent == "writer"
    assert [(match.agent, match.score) for match in routing.matches] == [
        ("code-reviewer", 0),
        ("scout", 1),
        ("writer", 3),
    ]
    assert str(routing) == "writer: 3 (plain, report, words); scout: 1 (facts); code-reviewer: 0"


@given(st.text(max_size=50), st.text(max_size=200))
def test_the_same_task_gets_the_same_agent_and_the_explanation_agrees(title: str, prompt: str) -> None:
    routing = ROUTER.explain(title, prompt)
    assert routing.agent == ROUTER.route(title, prompt)
    best = max(match.score for match in routing.matches)
    assert routing.agent == next(match.agent for match in routing.matches if match.score == best)


def test_templates_and_braces_that_are_not_closed() -> None:
    assert words_of("alpha {{ beta }} gamma {% delta %} epsilon") == {"alpha", "gamma", "epsilon"}
    assert words_of("alpha {{ beta {% gamma %} delta") == {"alpha", "beta", "delta"}
    assert words_of("{{" * 300_000 + " alpha " + "{%" * 300_000) == {"alpha"}, "in one go"
