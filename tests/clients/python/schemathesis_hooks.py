"""What schemathesis is told about this API besides its OpenAPI document."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # A watch does not end by itself, and is tested elsewhere.
    if case.query:
        case.query.pop("watch", None)
