//! Renders objects as tables, with the columns of `kubectl get`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerStatus, Event, Namespace, Node, NodeSystemInfo, PersistentVolumeClaim, Pod,
    ResourceQuota, Secret, Service, ServiceAccount, ServicePort,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta, Time};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::object::{Kind, partial_metadata, resource_version};
use crate::resources::{container_state, true_condition};

/// A column of objects of type `T`. Wide ones are shown by `-o wide` only.
struct Column<T> {
    name: &'static str,
    wide: bool,
    cell: Cell<T>,
}

/// How to render a cell.
enum Cell<T> {
    /// A field; `absent` is shown if it is absent or empty.
    Field {
        get: fn(&T) -> Option<&str>,
        absent: &'static str,
    },
    Text(fn(&T) -> String),
    /// The duration between two times, or until now without the second.
    Duration(fn(&T) -> Option<&Time>, fn(&T) -> Option<&Time>),
}

const NONE: &str = "<none>";

const fn column<T>(name: &'static str, cell: Cell<T>) -> Column<T> {
    Column {
        name,
        wide: false,
        cell,
    }
}

const fn text<T>(name: &'static str, cell: fn(&T) -> String) -> Column<T> {
    column(name, Cell::Text(cell))
}

const fn field<T>(name: &'static str, get: fn(&T) -> Option<&str>) -> Column<T> {
    column(name, Cell::Field { get, absent: "" })
}

const fn field_or_none<T>(name: &'static str, get: fn(&T) -> Option<&str>) -> Column<T> {
    column(name, Cell::Field { get, absent: NONE })
}

/// A column that is the same for all objects.
const fn constant<T>(name: &'static str, text: &'static str) -> Column<T> {
    let get = |_: &T| None;
    column(name, Cell::Field { get, absent: text })
}

const fn since<T>(name: &'static str, from: fn(&T) -> Option<&Time>) -> Column<T> {
    column(name, Cell::Duration(from, |_| None))
}

const fn wide<T>(column: Column<T>) -> Column<T> {
    Column { wide: true, ..column }
}

const fn name<T: Metadata<Ty = ObjectMeta>>() -> Column<T> {
    field("Name", |object| object.metadata().name.as_deref())
}

const fn age<T: Metadata<Ty = ObjectMeta>>() -> Column<T> {
    since("Age", |object| object.metadata().creation_timestamp.as_ref())
}

const fn name_and_age<T: Metadata<Ty = ObjectMeta>>() -> [Column<T>; 2] {
    [name(), age()]
}

const JOB: &[Column<Job>] = &[
    name(),
    field("Status", |job| Some(job_status(job))),
    text("Completions", |job| {
        let done = job.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
        let spec = job.spec.as_ref();
        match spec.and_then(|spec| spec.completions) {
            Some(wanted) => format!("{done}/{wanted}"),
            None => format!("{done}/1 of {}", spec.and_then(|spec| spec.parallelism).unwrap_or(1)),
        }
    }),
    column(
        "Duration",
        Cell::Duration(
            |job| job.status.as_ref()?.start_time.as_ref(),
            |job| job.status.as_ref()?.completion_time.as_ref(),
        ),
    ),
    age(),
    wide(text("Containers", |job| {
        join(containers(job).iter().map(|container| container.name.as_str()))
    })),
    wide(text("Images", |job| {
        join(
            containers(job)
                .iter()
                .filter_map(|container| container.image.as_deref()),
        )
    })),
    wide(text("Selector", |job| {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        label_pairs(selector.and_then(|selector| selector.match_labels.as_ref()))
    })),
];

const POD: &[Column<Pod>] = &[
    name(),
    text("Ready", |pod| {
        let ready = container_statuses(pod).iter().filter(|status| status.ready).count();
        let total = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
        format!("{ready}/{total}")
    }),
    field("Status", pod_status),
    text("Restarts", |pod| {
        let restarts = container_statuses(pod)
            .iter()
            .map(|status| i64::from(status.restart_count));
        restarts.sum::<i64>().to_string()
    }),
    age(),
    wide(field_or_none("IP", |pod| pod.status.as_ref()?.pod_ip.as_deref())),
    wide(field_or_none("Node", |pod| pod.spec.as_ref()?.node_name.as_deref())),
    wide(field_or_none("Nominated Node", |pod| {
        pod.status.as_ref()?.nominated_node_name.as_deref()
    })),
    wide(constant("Readiness Gates", NONE)),
];

const CLAIM: &[Column<PersistentVolumeClaim>] = &[
    name(),
    field("Status", |claim| match claim.metadata.deletion_timestamp {
        Some(_) => Some("Terminating"),
        None => claim.status.as_ref()?.phase.as_deref(),
    }),
    field("Volume", |claim| claim.spec.as_ref()?.volume_name.as_deref()),
    field("Capacity", |claim| {
        let size = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
        Some(&size.0)
    }),
    text("Access Modes", |claim| {
        let modes = claim.status.as_ref().and_then(|status| status.access_modes.as_ref());
        join(modes.into_iter().flatten().map(|mode| short_access_mode(mode)))
    }),
    field("StorageClass", |claim| {
        claim.spec.as_ref()?.storage_class_name.as_deref()
    }),
    constant("VolumeAttributesClass", "<unset>"),
    age(),
    wide(field("VolumeMode", |claim| claim.spec.as_ref()?.volume_mode.as_deref())),
];

const NODE: &[Column<Node>] = &[
    name(),
    field("Status", |node| {
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable);
        Some(if unschedulable == Some(true) {
            "Ready,SchedulingDisabled"
        } else {
            "Ready"
        })
    }),
    constant("Roles", NONE),
    age(),
    field("Version", |node| Some(&node_info(node)?.kubelet_version)),
    wide(field("Internal-IP", |node| {
        Some(&node.status.as_ref()?.addresses.as_ref()?.first()?.address)
    })),
    wide(constant("External-IP", NONE)),
    wide(field("OS-Image", |node| Some(&node_info(node)?.os_image))),
    wide(field("Kernel-Version", |node| Some(&node_info(node)?.kernel_version))),
    wide(field("Container-Runtime", |node| {
        Some(&node_info(node)?.container_runtime_version)
    })),
];

const EVENT: &[Column<Event>] = &[
    since("Last Seen", |event| event.last_timestamp.as_ref()),
    field("Type", |event| event.type_.as_deref()),
    field("Reason", |event| event.reason.as_deref()),
    text("Object", |event| {
        let about = &event.involved_object;
        let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
        format!("{kind}/{}", about.name.as_deref().unwrap_or_default())
    }),
    wide(field("Subobject", |event| event.involved_object.field_path.as_deref())),
    wide(field("Source", |event| event.source.as_ref()?.component.as_deref())),
    field("Message", |event| event.message.as_deref().map(str::trim)),
    wide(since("First Seen", |event| event.first_timestamp.as_ref())),
    wide(text("Count", |event| event.count.unwrap_or(1).to_string())),
    wide(field("Name", |event| event.metadata.name.as_deref())),
];

const SERVICE: &[Column<Service>] = &[
    name(),
    field("Type", |service| service.spec.as_ref()?.type_.as_deref()),
    field_or_none("Cluster-IP", |service| service.spec.as_ref()?.cluster_ip.as_deref()),
    constant("External-IP", NONE),
    text("Port(s)", |service| {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        let shown = |port: &ServicePort| format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or_default());
        join_or_none(ports.into_iter().flatten().map(shown))
    }),
    age(),
    wide(text("Selector", |service| {
        label_pairs(service.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    })),
];

const CONFIG_MAP: &[Column<ConfigMap>] = &[
    name(),
    text("Data", |map| {
        let texts = map.data.as_ref().map_or(0, BTreeMap::len);
        (texts + map.binary_data.as_ref().map_or(0, BTreeMap::len)).to_string()
    }),
    age(),
];

const SECRET: &[Column<Secret>] = &[
    name(),
    field("Type", |secret| secret.type_.as_deref()),
    text("Data", |secret| {
        secret.data.as_ref().map_or(0, BTreeMap::len).to_string()
    }),
    age(),
];

const NAMESPACE: &[Column<Namespace>] = &[
    name(),
    field("Status", |namespace| namespace.status.as_ref()?.phase.as_deref()),
    age(),
];

/// The definitions of the columns, and the cells of each object.
struct Cells {
    definitions: Vec<Value>,
    rows: Vec<Vec<String>>,
}

fn cells(kind: Kind, objects: &[Value], now: Timestamp) -> Cells {
    match kind {
        Kind::Job => render(JOB, objects, now),
        Kind::Pod => render(POD, objects, now),
        Kind::PersistentVolumeClaim => render(CLAIM, objects, now),
        Kind::Node => render(NODE, objects, now),
        Kind::Event => render(EVENT, objects, now),
        Kind::Service => render(SERVICE, objects, now),
        Kind::ConfigMap => render(CONFIG_MAP, objects, now),
        Kind::Secret => render(SECRET, objects, now),
        Kind::Namespace => render(NAMESPACE, objects, now),
        Kind::ResourceQuota => render(&name_and_age::<ResourceQuota>(), objects, now),
        Kind::ServiceAccount => render(&name_and_age::<ServiceAccount>(), objects, now),
        Kind::StorageClass => render(&name_and_age::<StorageClass>(), objects, now),
    }
}

fn render<T: DeserializeOwned + Default>(columns: &[Column<T>], objects: &[Value], now: Timestamp) -> Cells {
    let definition = |column: &Column<T>| {
        let format = if column.name == "Name" { "name" } else { "" };
        let priority = i32::from(column.wide);
        json!({"name": column.name, "type": "string", "format": format, "description": "", "priority": priority})
    };
    let row = |object: &Value| {
        let object = T::deserialize(object).unwrap_or_default();
        columns.iter().map(|column| column.cell.render(&object, now)).collect()
    };
    Cells {
        definitions: columns.iter().map(definition).collect(),
        rows: objects.iter().map(row).collect(),
    }
}

/// Renders a `meta.k8s.io/v1` `Table`. `metadata` is that of a list; without it, the only object's version is the
/// table's.
pub(crate) fn table(
    kind: Kind,
    objects: &[Value],
    metadata: Option<ListMeta>,
    with_columns: bool,
    now: Timestamp,
) -> Value {
    let Cells { definitions, rows } = cells(kind, objects, now);
    let rows: Vec<Value> = rows
        .into_iter()
        .zip(objects)
        .map(|(cells, object)| json!({"cells": cells, "object": partial_metadata(object)}))
        .collect();
    let metadata = metadata.unwrap_or_else(|| ListMeta {
        resource_version: objects.first().and_then(resource_version),
        ..ListMeta::default()
    });
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if with_columns { definitions } else { Vec::new() },
        "rows": rows,
    })
}

fn join<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.collect::<Vec<_>>().join(",")
}

fn join_or_none(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    match texts.as_slice() {
        [] => NONE.to_owned(),
        texts => texts.join(","),
    }
}

fn container_statuses(pod: &Pod) -> &[ContainerStatus] {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
}

fn pod_status(pod: &Pod) -> Option<&str> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("Terminating");
    }
    let status = pod.status.as_ref()?;
    let state = container_state(status);
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
    let ended = state.and_then(|state| state.terminated.as_ref()?.reason.as_deref());
    waiting
        .or(status.reason.as_deref())
        .or(ended)
        .or(status.phase.as_deref())
}

fn job_status(job: &Job) -> &'static str {
    let is = |name: &str| {
        let status = job.status.as_ref();
        status.is_some_and(|status| true_condition(status, name).is_some())
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn containers(job: &Job) -> &[Container] {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.map_or(&[], |pod| pod.containers.as_slice())
}

fn node_info(node: &Node) -> Option<&NodeSystemInfo> {
    node.status.as_ref()?.node_info.as_ref()
}

fn label_pairs(labels: Option<&BTreeMap<String, String>>) -> String {
    let labels = labels.into_iter().flatten();
    join_or_none(labels.map(|(key, value)| format!("{key}={value}")))
}

fn short_access_mode(mode: &str) -> &'static str {
    match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    }
}

impl<T> Cell<T> {
    fn render(&self, object: &T, now: Timestamp) -> String {
        match self {
            Self::Field { get, absent } => {
                let text = get(object).filter(|text| !text.is_empty());
                text.unwrap_or(absent).to_owned()
            }
            Self::Text(text_of) => text_of(object),
            Self::Duration(from, to) => {
                let Some(from) = from(object) else {
                    return "<unknown>".to_owned();
                };
                let to = to(object).map_or(now, |to| to.0);
                human_duration(to.as_second() - from.0.as_second())
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
