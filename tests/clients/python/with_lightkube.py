"""lightkube: typed core kinds, and custom ones that it learns from their definitions."""

import sys

from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import async_load_in_cluster_generic_resources  # noqa: F401 (its module must load)
from lightkube.generic_resource import get_generic_resource, load_in_cluster_generic_resources
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Namespace
from lightkube.types import PatchType

from objects import API_VERSION, application, eventually

NAMESPACE = "python-lightkube"

client = Client(KubeConfig.from_file(sys.argv[1]).get(), field_manager="lightkube-test")
client.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))

load_in_cluster_generic_resources(client)
Application = get_generic_resource(API_VERSION, "Application")
assert Application is not None, "the definitions say which kinds there are"

shop = client.create(Application(application("shop", labels={"tier": "front"})), namespace=NAMESPACE)
assert shop.metadata.generation == 1


def replaced():
    """Reads and replaces; the controller may write the status in between, which is then a conflict as it should be."""
    try:
        found = client.get(Application, "shop", namespace=NAMESPACE)
        found.spec["instances"] = 3
        return client.replace(found)
    except ApiError as error:
        assert error.status.code == 409, error
        return None


shop = eventually("it is replaced", replaced)
assert shop.spec["instances"] == 3
changed = client.patch(Application, "shop", {"spec": {"instances": 4}}, namespace=NAMESPACE, patch_type=PatchType.MERGE)
assert changed.spec["instances"] == 4
try:
    client.replace(shop)
    raise AssertionError("a lost update")
except ApiError as error:
    assert (error.status.code, error.status.reason) == (409, "Conflict")
patch = [{"op": "test", "path": "/spec/instances", "value": 4}, {"op": "replace", "path": "/spec/instances", "value": 5}]
changed = client.patch(Application, "shop", patch, namespace=NAMESPACE, patch_type=PatchType.JSON)
assert changed.spec["instances"] == 5
assert client.get(Application.Status, "shop", namespace=NAMESPACE).metadata.uid == shop.metadata.uid

client.create(ConfigMap(metadata=ObjectMeta(name="settings"), data={"a": "1"}), namespace=NAMESPACE)
patched = client.patch(ConfigMap, "settings", {"data": {"b": "2"}}, namespace=NAMESPACE)
assert patched.data == {"a": "1", "b": "2"}, "a strategic merge patch"

for number in range(7):
    client.create(ConfigMap(metadata=ObjectMeta(name=f"c{number}", labels={"n": str(number % 2)})), namespace=NAMESPACE)
# Besides these there is the namespace's own, kube-root-ca.crt.
own = "kube-root-ca.crt"
listed = [found.metadata.name for found in client.list(ConfigMap, namespace=NAMESPACE, chunk_size=3)]
assert [name for name in listed if name != own] == [f"c{number}" for number in range(7)] + ["settings"], listed
odd = client.list(ConfigMap, namespace=NAMESPACE, labels={"n": ["1", "3"]})
assert [found.metadata.name for found in odd] == ["c1", "c3", "c5"]
assert [found.metadata.name for found in client.list(Application, namespace="*", fields={"metadata.name": "shop"})] == ["shop"]

for event, found in client.watch(Application, namespace=NAMESPACE, server_timeout=20):
    assert (event, found.metadata.name) == ("ADDED", "shop")
    break

# Server-side apply: it makes what is not there, and asks before it takes a field from somebody else.
applied = client.apply(Application(application("applied", namespace=NAMESPACE)), field_manager="one")
assert [entry.manager for entry in applied.metadata.managedFields if entry.operation == "Apply"] == ["one"]
other = Application(application("applied", instances=2, namespace=NAMESPACE))
try:
    client.apply(other, field_manager="two")
    raise AssertionError("a conflict was not seen")
except ApiError as error:
    assert error.status.code == 409 and 'conflict with "one": .spec.instances' in error.status.message, error
assert client.apply(other, field_manager="two", force=True).spec["instances"] == 2
client.delete(Application, "applied", namespace=NAMESPACE)

client.deletecollection(ConfigMap, namespace=NAMESPACE)
assert not [found for found in client.list(ConfigMap, namespace=NAMESPACE) if found.metadata.name != own]
client.delete(Application, "shop", namespace=NAMESPACE)


def is_gone(kind, name, **where):
    try:
        client.get(kind, name, **where)
    except ApiError as error:
        return error.status.code == 404
    return False


eventually("the application is gone", lambda: is_gone(Application, "shop", namespace=NAMESPACE))
client.delete(Namespace, NAMESPACE)
eventually("the namespace is gone", lambda: is_gone(Namespace, NAMESPACE))
print("lightkube: all is well")
