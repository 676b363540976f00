import os
import resource
from contextlib import contextmanager

import pytest
from hypothesis import settings

from nbconv import backends

# Compiling and busy machines make single examples slow, which says nothing about the code.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items):
    """Tests that need a GPU are left out where there is none, and say why."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and (state := backends.available()["cuda"]) is not True:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=state))


@pytest.fixture
def full_disk():
    """A context in which no file may grow beyond 1000 bytes: writing ends in OSError, as on a full disk."""

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
