"""What the document cannot say, and generated requests must know."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # A task may name volumes that exist; this one does. What happens to others is shown by the end-to-end suite.
    volumes = case.body.get("volumes") if isinstance(case.body, dict) else None
    if isinstance(volumes, dict):
        for path, name in volumes.items():
            if isinstance(name, str) and name:
                volumes[path] = "fuzz"
    # The log of a task that waits is followed until it ends, which may be never.
    if case.operation.path.endswith("/logs") and isinstance(case.query, dict):
        if str(case.query.get("follow", "true")).lower() in ("true", "1", "yes", "on", "t", "y"):
            case.query["follow"] = "false"
