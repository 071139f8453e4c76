//! Renders objects as tables, with the columns of `kubectl get`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{Kind, partial_metadata};

/// A column. Wide ones are shown by `-o wide` only.
struct Column {
    name: &'static str,
    wide: bool,
    cell: Cell,
}

/// How to render a cell.
enum Cell {
    Text(fn(&Value) -> String),
    /// The duration between two times, or until now without the second.
    Duration(fn(&Value) -> (&Value, Option<&Value>)),
}

const fn column(name: &'static str, cell: fn(&Value) -> String) -> Column {
    Column {
        name,
        wide: false,
        cell: Cell::Text(cell),
    }
}

const fn duration(name: &'static str, times: fn(&Value) -> (&Value, Option<&Value>)) -> Column {
    Column {
        name,
        wide: false,
        cell: Cell::Duration(times),
    }
}

const fn wide(column: Column) -> Column {
    Column { wide: true, ..column }
}

const NAME: Column = column("Name", |object| text(&object["metadata"]["name"]));
const AGE: Column = duration("Age", |object| (&object["metadata"]["creationTimestamp"], None));

const JOB: &[Column] = &[
    NAME,
    column("Status", job_status),
    column("Completions", |job| {
        let done = job["status"]["succeeded"].as_i64().unwrap_or(0);
        match job["spec"]["completions"].as_i64() {
            Some(wanted) => format!("{done}/{wanted}"),
            None => format!("{done}/1 of {}", job["spec"]["parallelism"].as_i64().unwrap_or(1)),
        }
    }),
    duration("Duration", |job| {
        let status = &job["status"];
        (&status["startTime"], Some(&status["completionTime"]))
    }),
    AGE,
    wide(column("Containers", |job| {
        containers(&job["spec"]["template"]["spec"], "name")
    })),
    wide(column("Images", |job| {
        containers(&job["spec"]["template"]["spec"], "image")
    })),
    wide(column("Selector", |job| {
        label_pairs(&job["spec"]["selector"]["matchLabels"])
    })),
];

const POD: &[Column] = &[
    NAME,
    column("Ready", |pod| {
        let all = statuses(pod);
        let ready = all.iter().filter(|status| status["ready"] == true).count();
        let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
        format!("{ready}/{total}")
    }),
    column("Status", pod_status),
    column("Restarts", |pod| {
        let restarts: i64 = statuses(pod)
            .iter()
            .filter_map(|status| status["restartCount"].as_i64())
            .sum();
        restarts.to_string()
    }),
    AGE,
    wide(column("IP", |pod| text_or_none(&pod["status"]["podIP"]))),
    wide(column("Node", |pod| text_or_none(&pod["spec"]["nodeName"]))),
    wide(column("Nominated Node", |pod| {
        text_or_none(&pod["status"]["nominatedNodeName"])
    })),
    wide(column("Readiness Gates", |_| "<none>".to_owned())),
];

const CLAIM: &[Column] = &[
    NAME,
    column("Status", |claim| {
        if claim["metadata"]["deletionTimestamp"].is_string() {
            return "Terminating".to_owned();
        }
        text(&claim["status"]["phase"])
    }),
    column("Volume", |claim| text(&claim["spec"]["volumeName"])),
    column("Capacity", |claim| text(&claim["status"]["capacity"]["storage"])),
    column("Access Modes", |claim| access_modes(&claim["status"]["accessModes"])),
    column("StorageClass", |claim| text(&claim["spec"]["storageClassName"])),
    column("VolumeAttributesClass", |_| "<unset>".to_owned()),
    AGE,
    wide(column("VolumeMode", |claim| text(&claim["spec"]["volumeMode"]))),
];

const NODE: &[Column] = &[
    NAME,
    column("Status", |node| {
        if node["spec"]["unschedulable"] == true {
            "Ready,SchedulingDisabled"
        } else {
            "Ready"
        }
        .to_owned()
    }),
    column("Roles", |_| "<none>".to_owned()),
    AGE,
    column("Version", |node| text(&node["status"]["nodeInfo"]["kubeletVersion"])),
    wide(column("Internal-IP", |node| {
        text(&node["status"]["addresses"][0]["address"])
    })),
    wide(column("External-IP", |_| "<none>".to_owned())),
    wide(column("OS-Image", |node| text(&node["status"]["nodeInfo"]["osImage"]))),
    wide(column("Kernel-Version", |node| {
        text(&node["status"]["nodeInfo"]["kernelVersion"])
    })),
    wide(column("Container-Runtime", |node| {
        text(&node["status"]["nodeInfo"]["containerRuntimeVersion"])
    })),
];

const EVENT: &[Column] = &[
    duration("Last Seen", |event| (&event["lastTimestamp"], None)),
    column("Type", |event| text(&event["type"])),
    column("Reason", |event| text(&event["reason"])),
    column("Object", |event| {
        let about = &event["involvedObject"];
        format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]))
    }),
    wide(column("Subobject", |event| text(&event["involvedObject"]["fieldPath"]))),
    wide(column("Source", |event| text(&event["source"]["component"]))),
    column("Message", |event| text(&event["message"]).trim().to_owned()),
    wide(duration("First Seen", |event| (&event["firstTimestamp"], None))),
    wide(column("Count", |event| {
        event["count"].as_i64().unwrap_or(1).to_string()
    })),
    wide(column("Name", |event| text(&event["metadata"]["name"]))),
];

const SERVICE: &[Column] = &[
    NAME,
    column("Type", |service| text(&service["spec"]["type"])),
    column("Cluster-IP", |service| text_or_none(&service["spec"]["clusterIP"])),
    column("External-IP", |_| "<none>".to_owned()),
    column("Port(s)", |service| {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let shown: Vec<String> = ports
            .map(|port| format!("{}/{}", port["port"], text(&port["protocol"])))
            .collect();
        if shown.is_empty() {
            "<none>".to_owned()
        } else {
            shown.join(",")
        }
    }),
    AGE,
    wide(column("Selector", |service| label_pairs(&service["spec"]["selector"]))),
];

const DATA: &[Column] = &[
    NAME,
    column("Data", |object| {
        let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
        (count("data") + count("binaryData")).to_string()
    }),
    AGE,
];

const SECRET: &[Column] = &[
    NAME,
    column("Type", |secret| text(&secret["type"])),
    column("Data", |secret| {
        secret["data"].as_object().map_or(0, serde_json::Map::len).to_string()
    }),
    AGE,
];

const NAMESPACE: &[Column] = &[
    NAME,
    column("Status", |namespace| text(&namespace["status"]["phase"])),
    AGE,
];

const OTHER: &[Column] = &[NAME, AGE];

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Job => JOB,
        Kind::Pod => POD,
        Kind::PersistentVolumeClaim => CLAIM,
        Kind::Node => NODE,
        Kind::Event => EVENT,
        Kind::Service => SERVICE,
        Kind::ConfigMap => DATA,
        Kind::Secret => SECRET,
        Kind::Namespace => NAMESPACE,
        _ => OTHER,
    }
}

/// Renders a `meta.k8s.io/v1` `Table`.
pub fn table(kind: Kind, objects: &[Value], metadata: Option<Value>, with_columns: bool, now: Timestamp) -> Value {
    let columns = columns(kind);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            let priority = i32::from(column.wide);
            json!({"name": column.name, "type": "string", "format": format, "description": "", "priority": priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<String> = columns.iter().map(|column| column.cell.render(object, now)).collect();
            json!({"cells": cells, "object": partial_metadata(object)})
        })
        .collect();
    let version = objects
        .first()
        .map(|object| object["metadata"]["resourceVersion"].clone());
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata.unwrap_or_else(|| json!({"resourceVersion": version})),
        "columnDefinitions": if with_columns { definitions } else { Vec::new() },
        "rows": rows,
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text_or_none(value: &Value) -> String {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .unwrap_or("<none>")
        .to_owned()
}

fn statuses(pod: &Value) -> Vec<Value> {
    pod["status"]["containerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn pod_status(pod: &Value) -> String {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".to_owned();
    }
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let waiting = state["waiting"]["reason"].as_str();
    let ended = state["terminated"]["reason"].as_str();
    let own = pod["status"]["reason"].as_str();
    waiting
        .or(own)
        .or(ended)
        .map_or_else(|| text(&pod["status"]["phase"]), str::to_owned)
}

fn job_status(job: &Value) -> String {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is = |kind: &str| {
        let mut all = conditions.iter();
        all.any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let status = if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    status.to_owned()
}

fn containers(spec: &Value, field: &str) -> String {
    let all = spec["containers"].as_array().into_iter().flatten();
    let names: Vec<String> = all.map(|container| text(&container[field])).collect();
    names.join(",")
}

fn label_pairs(map: &Value) -> String {
    let entries = map.as_object().into_iter().flatten();
    let shown: Vec<String> = entries.map(|(key, value)| format!("{key}={}", text(value))).collect();
    if shown.is_empty() {
        "<none>".to_owned()
    } else {
        shown.join(",")
    }
}

fn access_modes(modes: &Value) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    let all = modes.as_array().into_iter().flatten().map(short);
    all.collect::<Vec<_>>().join(",")
}

fn parse_time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

impl Cell {
    fn render(&self, object: &Value, now: Timestamp) -> String {
        match self {
            Self::Text(text_of) => text_of(object),
            Self::Duration(times) => {
                let (from, to) = times(object);
                let Some(from) = parse_time(from) else {
                    return "<unknown>".to_owned();
                };
                let to = to.and_then(parse_time).unwrap_or(now);
                human_duration(to.as_second() - from.as_second())
            }
        }
    }
}

/// Formats a duration as `k8s.io/apimachinery/pkg/util/duration.HumanDuration` does.
fn human_duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two_units = |large: i64, unit: &str, small: i64, below: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{below}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two_units(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two_units(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two_units(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two_units(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_are_written_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3600, "60m"),
            (4 * 3600 + 60, "4h1m"),
            (30 * 3600, "30h"),
            (86_400 * 3, "3d"),
            (86_400 * 300, "300d"),
            (86_400 * 800, "2y70d"),
        ] {
            assert_eq!(human_duration(seconds), expected);
        }
    }
}
