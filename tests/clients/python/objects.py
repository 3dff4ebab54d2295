"""Objects that the scripts here have in common."""

import time

GROUP, VERSION = "berth.dev", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


def application(name, instances=1, **metadata):
    """An application that is switched off: nothing happens to it but what a test does."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Application",
        "metadata": {"name": name, **metadata},
        "spec": {
            "source": {"image": {"reference": "example.test/shop:1"}},
            "plan": "small",
            "instances": instances,
            "running": False,
            "start": {"port": 8080},
        },
    }


def eventually(what, check, seconds=30):
    """Waits until something holds, and returns it."""
    until = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.05)
