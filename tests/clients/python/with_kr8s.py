"""kr8s: objects that know where they are stored."""

import sys

import kr8s
from kr8s.objects import ConfigMap, Namespace, Secret, new_class

from objects import API_VERSION, application, eventually

NAMESPACE = "python-kr8s"

api = kr8s.api(kubeconfig=sys.argv[1])
assert api.version()["major"] == "1"
# It has its own token reviewed.
assert api.whoami() == "admin"
kinds = {(resource["version"], resource["kind"]) for resource in api.api_resources()}
assert (API_VERSION, "Application") in kinds and ("v1", "Secret") in kinds, kinds

namespace = Namespace({"metadata": {"name": NAMESPACE}}, api=api)
namespace.create()
assert NAMESPACE in [found.name for found in kr8s.get("namespaces", api=api)]

Application = new_class(kind="Application", version=API_VERSION, namespaced=True, scalable=True, scalable_spec="instances")
shop = Application(application("shop", namespace=NAMESPACE), api=api)
assert not shop.exists()
shop.create()
assert shop.exists() and shop.metadata.generation == 1
shop.patch({"spec": {"instances": 3}})
shop.refresh()
assert shop.spec.instances == 3
shop.label({"tier": "front"})
shop.annotate({"note": "read"})
assert [found.name for found in kr8s.get("applications.berth.dev", namespace=NAMESPACE, label_selector={"tier": "front"}, api=api)] == ["shop"]
assert Application.get("shop", namespace=NAMESPACE, api=api).annotations["note"] == "read"
shop.patch([{"op": "replace", "path": "/spec/instances", "value": 5}], type="json")
assert shop.spec.instances == 5

for event, found in kr8s.watch("applications.berth.dev", namespace=NAMESPACE, api=api):
    assert (event, found.name) == ("ADDED", "shop")
    break

for number in range(120):
    ConfigMap({"metadata": {"name": f"c{number:03}", "namespace": NAMESPACE}, "data": {"n": str(number)}}, api=api).create()
# It lists a hundred at a time. Besides these there is the namespace's own, kube-root-ca.crt.
listed = [found.name for found in kr8s.get("configmaps", namespace=NAMESPACE, api=api)]
assert [name for name in listed if name.startswith("c")] == [f"c{number:03}" for number in range(120)], listed
secret = Secret({"metadata": {"name": "key", "namespace": NAMESPACE}, "stringData": {"a": "b"}}, api=api)
secret.create()
assert secret.raw["data"] == {"a": "Yg=="}
try:
    Application(application("bad", instances=-1, namespace=NAMESPACE), api=api).create()
    raise AssertionError("an invalid object was stored")
except kr8s.ServerError as error:
    assert "spec.instances" in str(error), error

shop.delete()
shop.wait("delete", timeout=30)
namespace.delete()
eventually("the namespace is gone", lambda: not namespace.exists())
print("kr8s: all is well")
