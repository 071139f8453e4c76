//! Labels, annotations, and names of our Kubernetes objects, and how they identify a user.
//!
//! Those without the `k8s-cli/` prefix are the Python implementation's, so that each implementation sees the other's
//! objects.

use std::collections::BTreeMap;

use sha2::{Digest, Sha224};
use task::{Name, UserName};

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
/// On the owner of a task: all of its Jobs exist.
pub const COMMITTED: &str = "k8s-cli/committed";

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
/// On a pod or Job that was ended because another node failed: the rank of that node.
pub const ENDED_BECAUSE_OF: &str = "k8s-cli/ended-because-of-node";

/// On a Job or pod that was ended because other containers outlived the task's container: the exit code of that
/// container.
pub const EXIT_CODE: &str = "k8s-cli/exit-code";

/// On a PersistentVolumeClaim that all users may mount, where the operator requires this label.
pub const SHARED: &str = "k8s-cli/shared";

/// On the Jobs of a task: how many seconds each node may run.
pub const MAX_DURATION: &str = "k8s-cli/max-duration";
/// On the Jobs of a task: within how many seconds each node must be scheduled.
pub const PROVISION_TIMEOUT: &str = "k8s-cli/provision-timeout";
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

/// The user that an object belongs to, according to its labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    /// The owner of objects that this program creates for `user`.
    #[must_use]
    pub fn of(user: &UserName) -> Self {
        Self(user_label(user))
    }

    /// The owner of objects that the Python implementation creates for `user`. It replaces `@` with `-`, and rejects
    /// names with other characters that labels don't allow.
    #[must_use]
    pub fn of_python(user: &UserName) -> Self {
        Self::python(&user.as_str().replace('@', "-"))
    }

    /// Reads the owner from an object's labels.
    #[must_use]
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        match labels.get(USER) {
            Some(encoded) => Some(Self(encoded.clone())),
            None => labels.get(USERNAME).map(|username| Self::python(username)),
        }
    }

    /// The prefix separates the two kinds of owners, because a hash contains no colon.
    fn python(username: &str) -> Self {
        Self(format!("python:{username}"))
    }

    /// Sorts before every other owner, as the start of a range over all owners.
    #[must_use]
    pub fn first() -> Self {
        Self(String::new())
    }
}

/// The value of [`USER`]: the SHA-224 of the name in hexadecimal. Its 56 characters fit a label, which allows 63.
#[must_use]
pub fn user_label(user: &UserName) -> String {
    hash(&[user.as_str().as_bytes()])
}

/// The value of [`USERNAME`]: characters that labels don't allow become `-`.
#[must_use]
pub fn username_label(user: &UserName) -> String {
    let label: String = user
        .as_str()
        .chars()
        .map(|character| match character {
            kept if kept.is_ascii_alphanumeric() || matches!(kept, '-' | '_' | '.') => kept,
            _ => '-',
        })
        .take(task::name::MAX_LABEL_LENGTH)
        .collect();
    let label = label.trim_matches(|end: char| !end.is_ascii_alphanumeric());
    if label.is_empty() {
        "user".to_owned()
    } else {
        label.to_owned()
    }
}

/// A hash of several parts, as a label value. Each part is prefixed with its length, so that moving a byte from one
/// part to the next changes the hash.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha224::new();
    for part in parts {
        if parts.len() > 1 {
            hash.update((part.len() as u64).to_be_bytes());
        }
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the Job of a node. It derives from the task, so that two servers cannot create the same Job twice.
#[must_use]
pub fn job_name(name: &Name, id: &str, rank: u32, num_nodes: u32, attempt: u32) -> String {
    name.object_name(&match (num_nodes, attempt) {
        (1, 1) => id.to_owned(),
        (_, 1) => format!("{id}-node-{rank}"),
        (_, attempt) => format!("{id}-node-{rank}-attempt-{attempt}"),
    })
}

/// The token that all submits of a user with the same `Idempotency-Key` share.
#[must_use]
pub fn key_token(user: &UserName, key: &str) -> String {
    hash(&[user.as_str().as_bytes(), key.as_bytes()])
}

/// The name of the object that reserves an `Idempotency-Key` with this token, whatever task is submitted.
#[must_use]
pub fn key_object_name(token: &str) -> String {
    format!("key-{token}")
}

/// Whether a token derives from an `Idempotency-Key`. Random tokens are shorter.
#[must_use]
pub fn is_key_token(token: &str) -> bool {
    token.len() == 2 * <Sha224 as Digest>::output_size()
}

/// The token of the submission that created an object.
#[must_use]
pub fn submission(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(SUBMISSION).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use task::UserName;

    use super::{Owner, USER, USERNAME, user_label, username_label};

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn users_that_share_a_readable_label_do_not_share_the_one_that_counts() {
        assert_eq!(username_label(&user("a@b")), username_label(&user("a-b")));
        assert_ne!(user_label(&user("a@b")), user_label(&user("a-b")));
    }

    #[test]
    fn every_user_has_a_valid_label() {
        for name in [
            "alice@example.com",
            "x,y",
            "x=y",
            "日本",
            "-",
            &"a".repeat(200),
            &"é".repeat(100),
        ] {
            let label = username_label(&user(name));
            assert!(!label.is_empty() && label.len() <= 63, "{label}");
            assert!(label.starts_with(|end: char| end.is_ascii_alphanumeric()), "{label}");
            assert!(label.ends_with(|end: char| end.is_ascii_alphanumeric()), "{label}");
            assert_eq!(user_label(&user(name)).len(), 56);
        }
        assert_eq!(username_label(&user("alice@example.com")), "alice-example.com");
    }

    #[test]
    fn an_object_of_the_python_implementation_belongs_to_whom_it_would_say() {
        let python = BTreeMap::from([(USERNAME.to_owned(), "a-b".to_owned())]);
        let owner = Owner::from_labels(&python).unwrap();
        assert_eq!(owner, Owner::of_python(&user("a@b")));
        assert_eq!(owner, Owner::of_python(&user("a-b")));
        assert_ne!(owner, Owner::of_python(&user("a b")));
    }

    #[test]
    fn an_object_of_ours_belongs_to_one_exact_user() {
        let ours = BTreeMap::from([
            (USERNAME.to_owned(), "a-b".to_owned()),
            (USER.to_owned(), user_label(&user("a@b"))),
        ]);
        let owner = Owner::from_labels(&ours).unwrap();
        assert_eq!(owner, Owner::of(&user("a@b")));
        assert_ne!(owner, Owner::of(&user("a-b")));
        assert_ne!(owner, Owner::of_python(&user("a-b")));
    }
}
