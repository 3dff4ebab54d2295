"""An operator written with kopf: it looks after applications, keeps them with a finalizer, and lets them go."""

import asyncio
import os
import sys
import traceback

import kopf
from kubernetes import client, config

from objects import GROUP, VERSION, application

NAMESPACE = "python-kopf"
KIND = (GROUP, VERSION, "applications")
happened = []


@kopf.on.startup()
def configure(settings, **_):
    # The schema keeps no fields that it does not know, so progress goes into annotations alone.
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="operator.example.test")
    settings.persistence.finalizer = "operator.example.test/finalizer"
    settings.posting.level = 0


@kopf.on.create(*KIND)
def created(name, spec, body, patch, logger, **_):
    happened.append(("create", name, spec["instances"]))
    patch.metadata.labels["operator.example.test/seen"] = "yes"
    kopf.info(body, reason="Seen", message=f"{name} was seen")
    return None


@kopf.on.field(*KIND, field="spec.instances")
def scaled(name, old, new, **_):
    if old is not None:
        happened.append(("scale", name, old, new))


@kopf.timer(*KIND, interval=0.5, labels={"operator.example.test/seen": "yes"})
def tick(name, **_):
    happened.append(("tick", name))


@kopf.daemon(*KIND)
async def daemon(name, stopped, **_):
    happened.append(("daemon starts", name))
    await stopped.wait()
    happened.append(("daemon ends", name))


@kopf.on.delete(*KIND)
def deleted(name, **_):
    happened.append(("delete", name))


async def eventually(what, check, seconds=30):
    for _ in range(seconds * 20):
        found = await asyncio.to_thread(check)
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"not in time: {what}; what happened: {happened}")


async def told():
    """Leaves at once when the story fails: an operator that is cancelled would wait for its daemons."""
    try:
        await asyncio.wait_for(story(), 90)
    except BaseException:
        traceback.print_exc()
        print(f"what happened: {happened}", flush=True)
        os._exit(1)


async def story():
    config.load_kube_config()
    core, api = client.CoreV1Api(), client.CustomObjectsApi()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    where = (GROUP, VERSION, NAMESPACE, "applications")
    read = lambda: api.get_namespaced_custom_object(*where, "shop")  # noqa: E731
    ready, stop = asyncio.Event(), asyncio.Event()
    operator = asyncio.create_task(
        kopf.operator(namespaces=[NAMESPACE], standalone=True, ready_flag=ready, stop_flag=stop)
    )
    await asyncio.wait_for(ready.wait(), 30)
    await asyncio.to_thread(api.create_namespaced_custom_object, *where, application("shop"))
    await eventually("it was seen", lambda: read()["metadata"].get("labels", {}).get("operator.example.test/seen"))
    assert "operator.example.test/finalizer" in read()["metadata"]["finalizers"]
    assert ("create", "shop", 1) in happened
    reasons = lambda: [event.reason for event in core.list_namespaced_event(NAMESPACE).items]  # noqa: E731
    await eventually("the event", lambda: "Seen" in reasons())
    await eventually("the timer", lambda: ("tick", "shop") in happened)
    await asyncio.to_thread(api.patch_namespaced_custom_object, *where, "shop", {"spec": {"instances": 4}})
    await eventually("the change", lambda: ("scale", "shop", 1, 4) in happened)
    await asyncio.to_thread(api.delete_namespaced_custom_object, *where, "shop")
    await eventually("it was let go", lambda: not api.list_namespaced_custom_object(*where)["items"])
    assert ("delete", "shop") in happened and ("daemon ends", "shop") in happened, happened
    stop.set()
    await asyncio.wait_for(operator, 30)
    core.delete_namespace(NAMESPACE)


# kopf reads the same variable as kubectl, which the caller has set.
assert len(sys.argv) == 2
asyncio.run(told())
print("kopf: all is well")
