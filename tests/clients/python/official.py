"""The official Python client: typed core kinds, custom objects, watches, the dynamic client."""

import sys

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError

from objects import API_VERSION, GROUP, VERSION, application, eventually

NAMESPACE = "python-official"


def refused(status, reason, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == status and f'"reason":"{reason}"' in error.body.replace(" ", ""), error
        return error.body
    raise AssertionError(f"{call} was not refused")


def core_kinds():
    core = client.CoreV1Api()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    assert NAMESPACE in [item.metadata.name for item in core.list_namespace().items]
    assert core.read_namespace(NAMESPACE).status.phase == "Active"
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="key"), string_data={"a": "b"})
    assert core.create_namespaced_secret(NAMESPACE, secret).data == {"a": "Yg=="}
    settings = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings", labels={"of": "shop"}), data={"a": "b"})
    core.create_namespaced_config_map(NAMESPACE, settings)
    patched = core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"z": "1"}})
    assert patched.data == {"a": "b", "z": "1"}, "a strategic merge patch"
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="of in (shop,mall)", field_selector="metadata.name=settings")
    assert [item.metadata.name for item in listed.items] == ["settings"]
    patched.data = {"only": "this"}
    assert core.replace_namespaced_config_map("settings", NAMESPACE, patched).data == {"only": "this"}
    refused(409, "Conflict", core.replace_namespaced_config_map, "settings", NAMESPACE, patched)
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, settings)
    dry = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="dry"))
    assert core.create_namespaced_config_map(NAMESPACE, dry, dry_run="All").metadata.uid
    refused(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="leader"), spec=client.V1LeaseSpec(holder_identity="me"))
    assert client.CoordinationV1Api().create_namespaced_lease(NAMESPACE, lease).spec.holder_identity == "me"
    gone = core.delete_namespaced_config_map("settings", NAMESPACE)
    assert gone["status"] == "Success" and gone["details"]["name"] == "settings"
    hard = client.V1ResourceQuotaSpec(hard={"secrets": "2"})
    core.create_namespaced_resource_quota(NAMESPACE, client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="small"), spec=hard))
    second, third = (client.V1Secret(metadata=client.V1ObjectMeta(name=name)) for name in ("second", "third"))
    core.create_namespaced_secret(NAMESPACE, second)
    assert "exceeded quota: small" in refused(403, "Forbidden", core.create_namespaced_secret, NAMESPACE, third)

    def used():
        status = core.read_namespaced_resource_quota("small", NAMESPACE).status
        return status and status.used

    eventually("usage", lambda: used() == {"secrets": "2"})


def custom_objects():
    api = client.CustomObjectsApi()
    where = (GROUP, VERSION, NAMESPACE, "applications")
    created = api.create_namespaced_custom_object(*where, application("shop", labels={"tier": "front"}))
    assert created["metadata"]["generation"] == 1 and created["spec"]["running"] is False
    assert api.get_namespaced_custom_object(*where, "shop")["metadata"]["uid"] == created["metadata"]["uid"]
    changed = api.patch_namespaced_custom_object(*where, "shop", {"spec": {"instances": 3}})
    assert changed["spec"]["instances"] == 3 and changed["metadata"]["generation"] == 2
    scale = api.get_namespaced_custom_object_scale(*where, "shop")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 3)
    scale["spec"]["replicas"] = 2
    # The controller writes the status meanwhile: without a revision the scale is written on top of it.
    del scale["metadata"]["resourceVersion"]
    assert api.replace_namespaced_custom_object_scale(*where, "shop", scale)["spec"]["replicas"] == 2
    body = refused(422, "Invalid", api.patch_namespaced_custom_object, *where, "shop", {"spec": {"instances": -1}})
    assert "spec.instances" in body
    # This client sends a JSON patch as a merge patch: a real server answers 400, and so must this one.
    refused(400, "BadRequest", api.patch_namespaced_custom_object, *where, "shop", [{"op": "remove", "path": "/spec"}])

    for number in range(5):
        api.create_namespaced_custom_object(*where, application(f"page-{number}"))
    names, token, revisions = [], None, set()
    while True:
        page = api.list_namespaced_custom_object(*where, limit=2, _continue=token)
        names += [item["metadata"]["name"] for item in page["items"]]
        revisions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue")
        if not token:
            break
    assert names == [f"page-{number}" for number in range(5)] + ["shop"] and len(revisions) == 1, (names, revisions)
    selected = api.list_namespaced_custom_object(*where, label_selector="tier=front")
    assert [item["metadata"]["name"] for item in selected["items"]] == ["shop"]

    since = selected["metadata"]["resourceVersion"]
    api.delete_namespaced_custom_object(*where, "page-0")
    api.patch_namespaced_custom_object(*where, "shop", {"spec": {"instances": 4}})
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(api.list_namespaced_custom_object, *where, resource_version=since, timeout_seconds=30):
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        if ("MODIFIED", "shop") in seen and any(name == "page-0" and kind == "DELETED" for kind, name in seen):
            watcher.stop()
    assert [name for kind, name in seen if kind == "DELETED"] == ["page-0"], seen
    # The end of a watch is an end and no error.
    list(watch.Watch().stream(api.list_namespaced_custom_object, *where, timeout_seconds=1))
    api.delete_collection_namespaced_custom_object(*where)
    eventually("all are gone", lambda: not api.list_namespaced_custom_object(*where)["items"])


def dynamic():
    cluster = DynamicClient(client.ApiClient())
    applications = cluster.resources.get(api_version=API_VERSION, kind="Application")
    assert applications.namespaced and "app" in applications.short_names
    made = applications.create(body=application("dynamic"), namespace=NAMESPACE)
    assert applications.get(name="dynamic", namespace=NAMESPACE).metadata.uid == made.metadata.uid
    merge = "application/merge-patch+json"
    patch = {"metadata": {"name": "dynamic"}, "spec": {"instances": 2}}
    assert applications.patch(body=patch, namespace=NAMESPACE, content_type=merge).spec.instances == 2
    assert applications.status.get(name="dynamic", namespace=NAMESPACE).kind == "Application"
    for event in applications.watch(namespace=NAMESPACE, timeout=30):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "dynamic")
        break
    applications.delete(name="dynamic", namespace=NAMESPACE)

    def is_gone():
        try:
            applications.get(name="dynamic", namespace=NAMESPACE)
        except NotFoundError:
            return True
        return False

    eventually("it is gone", is_gone)


def server_side_apply():
    """The same through typed core kinds, custom objects and the dynamic client: who owns what is theirs."""
    core, api = client.CoreV1Api(), client.CustomObjectsApi()
    applying = {"_content_type": "application/apply-patch+yaml"}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    applied = core.patch_namespaced_config_map("applied", NAMESPACE, settings, field_manager="one", **applying)
    assert (applied.metadata.managed_fields[0].manager, applied.metadata.managed_fields[0].operation) == ("one", "Apply")
    where = (GROUP, VERSION, NAMESPACE, "applications", "applied")
    apply = lambda instances, **options: api.patch_namespaced_custom_object(  # noqa: E731
        *where, application("applied", instances), **applying, **options
    )
    # An apply that makes the object answers 201, of which this client expects no body.
    apply(1, field_manager="one")
    assert api.get_namespaced_custom_object(*where)["spec"]["instances"] == 1
    body = refused(409, "Conflict", apply, 2, field_manager="two")
    assert 'conflict with \\"one\\": .spec.instances' in body, body
    assert apply(2, field_manager="two", force=True)["spec"]["instances"] == 2
    applications = DynamicClient(client.ApiClient()).resources.get(api_version=API_VERSION, kind="Application")
    again = applications.server_side_apply(
        body=application("applied", 3), namespace=NAMESPACE, field_manager="three", force_conflicts=True
    )
    assert again.spec.instances == 3
    owners = {(entry.manager, entry.operation) for entry in again.metadata.managedFields}
    assert {("one", "Apply"), ("two", "Apply"), ("three", "Apply")} <= owners, owners
    api.delete_namespaced_custom_object(*where)


def strangers():
    stranger = client.Configuration.get_default_copy()
    stranger.api_key = {name: "Bearer wrong" for name in stranger.api_key}
    stranger.refresh_api_key_hook = None
    refused(401, "Unauthorized", client.CoreV1Api(client.ApiClient(stranger)).list_namespace)


config.load_kube_config(sys.argv[1])
assert client.VersionApi().get_code().major == "1"
core_kinds()
custom_objects()
dynamic()
server_side_apply()
strangers()
client.CoreV1Api().delete_namespace(NAMESPACE)
eventually("the namespace is gone", lambda: NAMESPACE not in [n.metadata.name for n in client.CoreV1Api().list_namespace().items])
print("official: all is well")
