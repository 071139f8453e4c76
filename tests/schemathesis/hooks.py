"""Constraints on generated requests that the OpenAPI document cannot express."""

import schemathesis

# The document has no types for values with several notations, because code generators fail on them. These are some of
# the values that the server accepts.
COUNT = {"type": "string", "pattern": "^[1-9][0-9]{0,2}$"}
QUANTITY = {"type": "string", "pattern": "^[1-9][0-9]{0,5}\\+?$"}
PORT = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": "^[1-9][0-9]{0,3}$"}]}
EXIT_CODE = {"type": "integer", "minimum": 0, "maximum": 255}
STRATEGY = {"type": "string", "enum": ["FAILOVER", "eager_next_region", "none"]}
RESOURCES = {
    "cpus": {
        "anyOf": [
            QUANTITY,
            {"type": "string", "pattern": "^[1-9][0-9]{0,5}m$"},
            {"type": "number", "minimum": 0.001, "maximum": 1000000},
        ]
    },
    "memory": {
        "anyOf": [
            QUANTITY,
            {"type": "string", "pattern": "^[1-9][0-9]{0,5}(GB|Gi|MB|Mi)$"},
            {"type": "integer", "minimum": 1, "maximum": 1073741824},
        ]
    },
    "accelerators": {
        "anyOf": [
            COUNT,
            {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]{0,60}(:[1-9][0-9]{0,2})?$"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "propertyNames": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9._-]{0,60}$"},
                "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1024},
            },
        ]
    },
    "use_spot": {"type": "boolean"},
    "disk_size": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[1-9][0-9]{0,5}(GB|Gi)?$"}]},
    "ports": {"anyOf": [PORT, {"type": "array", "maxItems": 256, "items": PORT}]},
    "job_recovery": {
        "anyOf": [
            STRATEGY,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "strategy": STRATEGY,
                    "max_restarts_on_errors": {"type": "integer", "minimum": 0, "maximum": 1000},
                    "recover_on_exit_codes": {
                        "anyOf": [EXIT_CODE, {"type": "array", "maxItems": 256, "items": EXIT_CODE}]
                    },
                },
            },
        ]
    },
}
# Text whose grammar has no short pattern.
DURATION = "^[1-9][0-9]{0,3}[smh]$"
SIZE = "^[1-9][0-9]{0,4}(Mi|Gi|GB)?$"
SINCE = "^([1-9][0-9]{0,4}[smhd]|20[0-9]{2}-0[1-9]-[12][0-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z)$"
# Not in a reserved directory.
MOUNT_PATH = "^(/[a-z]{4,8}[0-9])+$"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    schemas["Resources"]["properties"].update(RESOURCES)
    task = schemas["TaskDefinition"]["properties"]
    task["envs"]["additionalProperties"] = {"type": ["string", "number", "boolean"], "pattern": "^[^\\x00]*$"}
    task["max_duration"]["pattern"] = DURATION
    task["volumes"]["propertyNames"]["pattern"] = MOUNT_PATH
    volume = schemas["VolumeDefinition"]["properties"]
    volume["size"]["pattern"] = SIZE
    for parameter in raw_schema["paths"]["/tasks/{task_id}/logs"]["get"]["parameters"]:
        if parameter["name"] == "since":
            parameter["schema"]["pattern"] = SINCE


@schemathesis.hook
def before_call(context, case, kwargs):
    # Only existing volumes can be mounted, and `fuzz` exists. The end-to-end suite covers missing ones.
    volumes = case.body.get("volumes") if isinstance(case.body, dict) else None
    if isinstance(volumes, dict):
        for path, name in volumes.items():
            if isinstance(name, str) and name:
                volumes[path] = "fuzz"
    # `ReadWriteOncePod` cannot be combined with other modes.
    modes = case.body.get("access_modes") if isinstance(case.body, dict) else None
    if isinstance(modes, list) and len(modes) > 1 and "ReadWriteOncePod" in modes:
        case.body["access_modes"] = ["ReadWriteOncePod"]
    # Following the log of a waiting task may never end.
    if case.operation.path.endswith("/logs") and isinstance(case.query, dict):
        if str(case.query.get("follow", "true")).lower() in ("true", "1", "yes", "on", "t", "y"):
            case.query["follow"] = "false"
