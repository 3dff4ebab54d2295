"""What schemathesis is told about this API besides its OpenAPI documents."""

import zlib

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # A watch does not end by itself, and is tested elsewhere.
    if case.query:
        case.query.pop("watch", None)
    # Names that are made up lead nowhere. Three of four requests are for what the test has made, which is named after its
    # kind; which ones follows from what was made up, so that a seed stands for the same requests at each run.
    made_up = case.path_parameters or {}
    if zlib.crc32(repr(sorted(made_up.items())).encode()) % 4:
        if "namespace" in made_up:
            made_up["namespace"] = "default"
        if "name" in made_up:
            plural = case.operation.path.split("/{name}")[0].rsplit("/", 1)[1]
            made_up["name"] = "example-" + plural.removesuffix("s")
        # What is deleted would be missing for the requests that come later.
        if case.method.upper() == "DELETE":
            case.query = {**(case.query or {}), "dryRun": "All"}
            if isinstance(case.body, dict):
                # Options in a body take the place of those in the query.
                case.body["dryRun"] = ["All"]
