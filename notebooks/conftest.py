"""For nbval: a loaded or another machine is no difference."""


def pytest_itemcollected(item) -> None:
    """Wait longer than nbval's 5 s for a message of the kernel, and do not compare warnings."""
    item.output_timeout = 120
    if "stderr" not in item.parent.skip_compare:
        item.parent.skip_compare += ("stderr",)
