import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allready.agents.definitions import AgentDefinition
from allready.errors import PermanentError
from allready.plan.commands import has_template
from allready.plan.dump import plan_to_yaml
from allready.plan.load import load_plan
from allready.plan.plan import Limits, Prompt
from allready.plan.template import literal, names_used, render
from allready.planning.draft import DraftTask, needed_resources, plan_document, task_entry

TEMPLATE_LIKE = st.lists(
    st.sampled_from(
        [*"{}%#-+\"'\\\r\n\0 ax\ud800", "{{", "}}", "{%", "%}", "{% raw %}", "{% endraw %}", "{#"]
    )
).map("".join)

PROMPT = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("{}%\r\n"), min_size=1
)
"""What a plan file can hold."""


@settings(deadline=None)  # the first one imports Jinja2
@given(st.text() | TEMPLATE_LIKE)
@example("{{{%")
@example("{{ x }}{\r\n")
@example("{% raw %}{{ a }}{% endraw %}\r")
def test_a_literal_becomes_the_text_again(text: str) -> None:
    filled = literal(text)
    if has_template(filled) and ("\0" in text or any("\ud800" <= each <= "\udfff" for each in text)):
        with pytest.raises(PermanentError, match="becomes text with"):  # no file and no store can hold it
            render(filled, {})
    else:
        assert render(filled, {}) == text
    assert names_used(literal(text)) == names_used("")


def test_text_without_templates_stays_readable() -> None:
    assert literal("Say {this} and 5 % of that.\r\n") == "Say {this} and 5 % of that.\r\n"


def test_an_entry() -> None:
    task = DraftTask("b", "Look at it", "Explain {{ x }}.", "reader", ("a",))
    assert task_entry(task) == {
        "id": "b",
        "title": "Look at it",
        "agent": "reader",
        "depends_on": ["a"],
        "prompt": 'Explain {{ "{{" }} x }}.',
    }
    assert task_entry(DraftTask("a", "", "Do it.", None, ())) == {"id": "a", "prompt": "Do it."}


def test_a_document_in_the_order_of_plan_files() -> None:
    tasks = [DraftTask("a", "", "Do it.", None, ())]
    limits = Limits(max_tokens=1000, max_cost=0.5)
    document = plan_document("Why?", tasks, limits=limits, max_parallel=3)
    assert plan_to_yaml(document) == (
        "goal: Why?\n"
        "answer: true\n"
        "max_parallel: 3\n"
        "limits:\n  max_tokens: 1000\n  max_cost: 0.5\n"
        "defaults:\n  failure_strategy: skip\n  max_retries: 1\n"
        "tasks:\n- id: a\n  prompt: Do it.\n"
    )
    assert plan_document("Why?", tasks, resources={"gpu": 2})["resources"] == {"gpu": 2}
    assert set(plan_document("Why?", tasks, resources={})) == {"goal", "answer", "defaults", "tasks"}


def test_the_resources_that_agents_need_are_those_of_the_largest_demand() -> None:
    needs: list[dict[str, int]] = [{"browser": 1, "gpu": 2}, {}, {"browser": 3}]
    agents = [AgentDefinition.from_settings(f"a{n}", {"resources": need}) for n, need in enumerate(needs)]
    assert needed_resources(agents) == {"browser": 3, "gpu": 2}
    assert needed_resources([]) == {}


@settings(deadline=None)
@given(st.lists(PROMPT, min_size=1, max_size=3))
@example(["{{ x }}\r\n{% y %}", "  \n", "- a: b\n\t"])
def test_what_was_written_is_what_the_file_says(prompts: list[str]) -> None:
    tasks = [DraftTask(f"t{number}", "", prompt, None, ()) for number, prompt in enumerate(prompts)]
    loaded = load_plan(plan_to_yaml(plan_document("Why?", tasks)))
    assert loaded.answer
    for task in tasks:
        body = loaded.tasks[task.id].body
        assert isinstance(body, Prompt)
        assert render(body.text, {}) == task.prompt
        assert loaded.tasks[task.id].failure_strategy == "skip"
        assert loaded.tasks[task.id].max_retries == 1
