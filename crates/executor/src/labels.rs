//! Labels and annotations of our Kubernetes objects.
//!
//! Those without the `k8s-cli/` prefix are the Python implementation's, so that each implementation sees the other's
//! objects.

/// Label on every object of a task.
pub const TASK: &str = "skypilot-task";
/// Label on every object of a volume.
pub const VOLUME: &str = "skypilot-volume";
/// The value of [`TASK`] and [`VOLUME`].
pub const TRUE: &str = "true";
/// Selects our Jobs, pods, and task owners.
pub const TASK_SELECTOR: &str = "skypilot-task=true";
/// Selects our volumes.
pub const VOLUME_SELECTOR: &str = "skypilot-volume=true";
/// The ID of a task.
pub const TASK_ID: &str = "task-id";
/// The name of a task, shortened to fit a label.
pub const TASK_NAME: &str = "task-name";
/// The rank of a node.
pub const NODE_INDEX: &str = "node-idx";
/// The ID of a volume.
pub const VOLUME_ID: &str = "volume-id";
/// The name of a volume, shortened to fit a label.
pub const VOLUME_NAME: &str = "volume-name";
/// The user, with characters that labels don't allow replaced. For display; compared only on objects without [`USER`].
pub const USERNAME: &str = "username";
/// The hashed user, unique per user. Authorization compares this one.
pub const USER: &str = "k8s-cli/user";

/// When the task or volume was submitted (RFC 3339).
pub const CREATED_AT: &str = "created-at";
/// The number of nodes of the task.
pub const NUM_NODES: &str = "num-nodes";
/// The exact user name.
pub const EXACT_USERNAME: &str = "k8s-cli/username";
/// The exact name of the task or volume.
pub const EXACT_NAME: &str = "k8s-cli/name";
/// The token of a submission: random, or the hash of an `Idempotency-Key`. The same on all objects of a task.
pub const SUBMISSION: &str = "k8s-cli/submission";
/// A hash of the submitted task, to detect an `Idempotency-Key` that is reused with a different task.
pub const FINGERPRINT: &str = "k8s-cli/fingerprint";
/// On the owner of a task: a token of the try that created it. Tries with the same `Idempotency-Key` share everything
/// else.
pub const TRY: &str = "k8s-cli/try";
/// On the owner of a task: the current attempt and its stage; see `cache::turn`.
pub const TURN: &str = "k8s-cli/turn";
/// On the owner of a task: the deadline for creating its Jobs (RFC 3339).
pub const SUBMIT_DEADLINE: &str = "k8s-cli/submit-deadline";
/// On a ConfigMap that owns the parts of packed files.
pub const PACKED_FILES: &str = "k8s-cli/packed-files";
/// Selects these ConfigMaps.
pub const PACKED_FILES_SELECTOR: &str = "k8s-cli/packed-files=true";
/// On the same ConfigMap: the size of the parts, in bytes.
pub const PACKED_BYTES: &str = "k8s-cli/packed-bytes";
/// On the owner of a task: all of its Jobs exist.
pub const COMMITTED: &str = "k8s-cli/committed";

/// On the owner of a task that was submitted in a group: its place in the group; see `cache::group_member`.
pub const GROUP: &str = "k8s-cli/group";
/// On every object of a task in a group: the ID of the group.
pub const GROUP_ID: &str = "k8s-cli/group-id";
/// On a Job that its group has not started yet: the queue that it then enters; see `cache::HeldJob`.
pub const HELD: &str = "k8s-cli/held";

/// On a Job that its group has started: when (RFC 3339).
pub const GROUP_STARTED_AT: &str = "k8s-cli/group-started-at";
/// On the owner of the first task of a group: the owners of all tasks are committed.
pub const GROUP_COMPLETE: &str = "k8s-cli/group-complete";

/// On the Jobs of a task: the ports of its first node, separated by commas.
pub const PORTS: &str = "k8s-cli/ports";
/// On the Jobs of a task: the Service in front of these ports.
pub const PORT_SERVICE: &str = "k8s-cli/port-service";
/// On the Jobs of a task whose ports have an Ingress: the URL of each, with `{port}` in place of its number.
pub const PORT_URL: &str = "k8s-cli/port-url";

/// On the Jobs of a gang: the gates of its nodes, [`GANG_START`] or [`GANG_SETUP`].
pub const GANG: &str = "k8s-cli/gang";
/// The nodes wait until all of them run.
pub const GANG_START: &str = "start";
/// The nodes also wait until the setup of all of them has ended.
pub const GANG_SETUP: &str = "start,setup";
/// On a pod: the IP addresses of all nodes in rank order, one per line. Opens the start gate.
pub const NODE_IPS: &str = "k8s-cli/node-ips";
/// On a pod: the setup of all nodes has ended. Opens the run gate.
pub const RUN: &str = "k8s-cli/run";
/// On a pod or Job that the server ended: why (`cache::EndCause`).
pub const ENDED_BECAUSE_OF: &str = "k8s-cli/ended-because-of-node";

/// On the Job of a task without an owner that its user canceled.
pub const CANCELLED: &str = "k8s-cli/cancelled";
/// On a Job or pod that was ended because other containers outlived the task's container: the exit code of that
/// container.
pub const EXIT_CODE: &str = "k8s-cli/exit-code";

/// On a Job that has failed: how its node has ended (`cache::NodeEnd`), because its pod may be deleted.
pub const END: &str = "k8s-cli/end";

/// On the owner of a task, or on its only Job: its definition as JSON, without the values of secrets, for its record.
pub const DEFINITION: &str = "k8s-cli/definition";
/// On the same object: what each node requests, as JSON, for its record. The definition does not say it: the operator may
/// have defaults, and `pod_config` may change it.
pub const REQUESTS: &str = "k8s-cli/requests";
/// On the same object of a task that is about to be deleted: the user who stopped it.
pub const STOPPED_BY: &str = "k8s-cli/stopped-by";
/// On the same object of a task that was canceled: the user who did.
pub const CANCELED_BY: &str = "k8s-cli/canceled-by";

/// On the owner of a task whose nodes fetch files from the server: the file sets, separated by commas.
pub const FILE_SETS: &str = "k8s-cli/file-sets";
/// On the same owner, one for each try: the beginning of the names of annotations with the hash of a secret that gives
/// access to these file sets.
pub const FILES_TOKEN: &str = "k8s-cli/files-token-";

/// On a PersistentVolumeClaim that all users may mount, where the operator requires this label.
pub const SHARED: &str = "k8s-cli/shared";

/// On the Jobs of a task: how many seconds each node may run.
pub const MAX_DURATION: &str = "k8s-cli/max-duration";
/// On the Jobs of a task: within how many seconds each node must be scheduled.
pub const PROVISION_TIMEOUT: &str = "k8s-cli/provision-timeout";
/// On the Jobs of a task that follows several alternatives in order: the changes of its pods, as a list of JSON patches.
pub const ALTERNATIVES: &str = "k8s-cli/alternatives";
/// On the Jobs of a task that was not scheduled in time: the reason.
pub const PROVISION_TIMED_OUT: &str = "k8s-cli/provision-timed-out";
/// On the Jobs of a task: how many seconds the finished task is kept.
pub const TTL_AFTER_FINISHED: &str = "k8s-cli/ttl-seconds-after-finished";
/// On the Jobs of a task that gave way and has not retried yet: when it did (RFC 3339).
pub const GAVE_WAY_AT: &str = "k8s-cli/gave-way-at";
/// On the Jobs of a task that gave way: how many times.
pub const GAVE_WAY: &str = "k8s-cli/gave-way";
/// Kueue's label for the queue of a Job or of a group of pods (<https://kueue.sigs.k8s.io/docs/tasks/run/jobs/>).
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Kueue's label for the priority of a Job or of a group of pods.
pub const QUEUE_PRIORITY: &str = "kueue.x-k8s.io/priority-class";
/// Kueue's label for the group of a pod.
pub const POD_GROUP: &str = "kueue.x-k8s.io/pod-group-name";
/// Kueue's annotation for the number of pods in the group.
pub const POD_GROUP_COUNT: &str = "kueue.x-k8s.io/pod-group-total-count";
/// Kueue's annotation that declares that finished pods will not be replaced.
pub const RETRIABLE_IN_GROUP: &str = "kueue.x-k8s.io/retriable-in-group";

/// On the Jobs of a task that may be retried: how many failures of its own are allowed.
pub const MAX_RESTARTS: &str = "k8s-cli/max-restarts-on-errors";
/// On the same Jobs: the exit codes, separated by commas, that don't count as such a failure.
pub const RECOVER_ON: &str = "k8s-cli/recover-on-exit-codes";
/// On the Jobs of every attempt after the first: the number of the attempt.
pub const ATTEMPT: &str = "k8s-cli/attempt";
/// On the same Jobs: how many failures of its own the task had before.
pub const RESTARTS: &str = "k8s-cli/restarts-on-errors";

/// The name of the task's container.
pub const CONTAINER: &str = "task";
