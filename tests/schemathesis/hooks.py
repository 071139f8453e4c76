"""Constraints on generated requests that the OpenAPI document cannot express."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # Only existing volumes can be mounted, and `fuzz` exists. The end-to-end suite covers missing ones.
    volumes = case.body.get("volumes") if isinstance(case.body, dict) else None
    if isinstance(volumes, dict):
        for path, name in volumes.items():
            if isinstance(name, str) and name:
                volumes[path] = "fuzz"
    # Following the log of a waiting task may never end.
    if case.operation.path.endswith("/logs") and isinstance(case.query, dict):
        if str(case.query.get("follow", "true")).lower() in ("true", "1", "yes", "on", "t", "y"):
            case.query["follow"] = "false"
