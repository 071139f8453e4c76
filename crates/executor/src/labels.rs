//! Labels, annotations and other words that our Kubernetes objects carry, and who they belong to.
//!
//! The plain ones are those of the Python implementation, so that each sees the other's objects.

use std::collections::BTreeMap;

use sha2::{Digest, Sha224};
use task::{Name, UserName};

/// On everything that belongs to a task.
pub const TASK: &str = "skypilot-task";
/// On everything that belongs to a volume.
pub const VOLUME: &str = "skypilot-volume";
/// The value of [`TASK`] and [`VOLUME`].
pub const TRUE: &str = "true";
/// Selects our Jobs, Pods and task owners.
pub const TASK_SELECTOR: &str = "skypilot-task=true";
/// Selects our volumes.
pub const VOLUME_SELECTOR: &str = "skypilot-volume=true";
/// The identifier of a task.
pub const TASK_ID: &str = "task-id";
/// The name of a task, as far as a label can hold it.
pub const TASK_NAME: &str = "task-name";
/// The rank of a node.
pub const NODE_INDEX: &str = "node-idx";
/// The identifier of a volume.
pub const VOLUME_ID: &str = "volume-id";
/// The name of a volume, as far as a label can hold it.
pub const VOLUME_NAME: &str = "volume-name";
/// The user, as far as a label can hold the name. For people; never compared but on objects that have no [`USER`].
pub const USERNAME: &str = "username";
/// The user, encoded so that two users never share a value. This is what authorisation compares.
pub const USER: &str = "k8s-cli/user";

/// When it was made, RFC 3339.
pub const CREATED_AT: &str = "created-at";
/// How many nodes the task has.
pub const NUM_NODES: &str = "num-nodes";
/// The exact name of the user.
pub const EXACT_USERNAME: &str = "k8s-cli/username";
/// The exact name of the task or volume.
pub const EXACT_NAME: &str = "k8s-cli/name";
/// One submission: a random text, or the hash of an `Idempotency-Key`. The same on all objects of a task.
pub const SUBMISSION: &str = "k8s-cli/submission";
/// A hash of what was submitted, to notice an `Idempotency-Key` that comes with another task.
pub const FINGERPRINT: &str = "k8s-cli/fingerprint";
/// On the owner of a task: the one try of a submit that made it. Tries with the same `Idempotency-Key` share everything else.
pub const TRY: &str = "k8s-cli/try";
/// On the owner of a task whose nodes start together or that may be run again: which attempt it is in, and how far that has
/// come; see `gang::turn`.
pub const TURN: &str = "k8s-cli/turn";
/// On the owner of a task: until when its Jobs are being created, RFC 3339.
pub const SUBMIT_DEADLINE: &str = "k8s-cli/submit-deadline";
/// On the owner of a task: all its Jobs exist.
pub const COMMITTED: &str = "k8s-cli/committed";

/// On the Jobs of a task whose nodes start together: what they wait for, [`GANG_START`] or [`GANG_SETUP`].
pub const GANG: &str = "k8s-cli/gang";
/// The nodes wait until all run.
pub const GANG_START: &str = "start";
/// The nodes also wait until the setup of all has ended.
pub const GANG_SETUP: &str = "start,setup";
/// On a pod: the addresses of all nodes in rank order, one a line. It lets the node begin.
pub const NODE_IPS: &str = "k8s-cli/node-ips";
/// On a pod: the setup of all nodes has ended. It lets the node run.
pub const RUN: &str = "k8s-cli/run";
/// On a pod or Job that was ended because another node failed: the rank of that node.
pub const ENDED_BECAUSE_OF: &str = "k8s-cli/ended-because-of-node";

/// On a Job whose pod was ended after its container had, because another container went on: the exit code.
pub const EXIT_CODE: &str = "k8s-cli/exit-code";

/// On a claim that every user of the namespace may mount, where the operator wants claims to say so.
pub const SHARED: &str = "k8s-cli/shared";

/// On the Jobs of a task: how many seconds each node may run.
pub const MAX_DURATION: &str = "k8s-cli/max-duration";
/// On the Jobs of a task: within how many seconds each node must have a place on a machine.
pub const PROVISION_TIMEOUT: &str = "k8s-cli/provision-timeout";
/// On the Jobs of a task that had no place in time: what kept it from one.
pub const PROVISION_TIMED_OUT: &str = "k8s-cli/provision-timed-out";
/// On the Jobs of a task: how many seconds after its end it is deleted.
pub const TTL_AFTER_FINISHED: &str = "k8s-cli/ttl-seconds-after-finished";
/// On the Jobs of a task that has given its place to an earlier one, and has not tried again since: when, RFC 3339.
pub const GAVE_WAY_AT: &str = "k8s-cli/gave-way-at";
/// On the Jobs of a task that gave its place to an earlier one: how often.
pub const GAVE_WAY: &str = "k8s-cli/gave-way";
/// Kueue's label of the queue that a Job, or the pods of a group, wait in (<https://kueue.sigs.k8s.io/docs/tasks/run/jobs/>).
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Kueue's label of the group that a pod belongs to.
pub const POD_GROUP: &str = "kueue.x-k8s.io/pod-group-name";
/// Kueue's annotation of how many pods the group has.
pub const POD_GROUP_COUNT: &str = "kueue.x-k8s.io/pod-group-total-count";
/// Kueue's annotation that no other pod will take the place of one that has ended.
pub const RETRIABLE_IN_GROUP: &str = "kueue.x-k8s.io/retriable-in-group";

/// On the Jobs of a task that is run again after a failure: how often after failures of its own.
pub const MAX_RESTARTS: &str = "k8s-cli/max-restarts-on-errors";
/// On the same: the exit codes after which it is run again without counting, separated by commas.
pub const RECOVER_ON: &str = "k8s-cli/recover-on-exit-codes";
/// On the Jobs of an attempt after the first: its number.
pub const ATTEMPT: &str = "k8s-cli/attempt";
/// On the same: how many failures of its own came before it.
pub const RESTARTS: &str = "k8s-cli/restarts-on-errors";

/// The container of a node.
pub const CONTAINER: &str = "task";

/// Whose an object is, as its labels say it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    /// How the objects of `user` are labelled by this program.
    #[must_use]
    pub fn of(user: &UserName) -> Self {
        Self(user_label(user))
    }

    /// How the objects of `user` are labelled by the Python implementation, which writes `-` for `@` and refuses all
    /// else that no label can hold.
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

    /// The colon keeps the two kinds apart: a hash has none.
    fn python(username: &str) -> Self {
        Self(format!("python:{username}"))
    }

    /// Sorts before every other: where a search among all owners begins.
    #[must_use]
    pub fn first() -> Self {
        Self(String::new())
    }
}

/// The value of [`USER`]: the SHA-224 of the name in hexadecimal, 56 characters of the 63 that a label can have.
#[must_use]
pub fn user_label(user: &UserName) -> String {
    hash(&[user.as_str().as_bytes()])
}

/// The value of [`USERNAME`]: what a label cannot hold becomes `-`.
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

/// A hash of several parts, as a label value.
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

/// The name of the Job of one node: it follows from the task, so that whoever makes it, there is one of each.
#[must_use]
pub fn job_name(name: &Name, id: &str, rank: u32, num_nodes: u32, attempt: u32) -> String {
    name.object_name(&match (num_nodes, attempt) {
        (1, 1) => id.to_owned(),
        (_, 1) => format!("{id}-node-{rank}"),
        (_, attempt) => format!("{id}-node-{rank}-attempt-{attempt}"),
    })
}

/// The token of all submits of a user under one `Idempotency-Key`.
#[must_use]
pub fn key_token(user: &UserName, key: &str) -> String {
    hash(&[user.as_str().as_bytes(), key.as_bytes()])
}

/// The name of the object that reserves an `Idempotency-Key` with this token, whatever it is used for.
#[must_use]
pub fn key_object_name(token: &str) -> String {
    format!("key-{token}")
}

/// Whether a token is that of an `Idempotency-Key`; those of other submits are random and shorter.
#[must_use]
pub fn is_key_token(token: &str) -> bool {
    token.len() == 2 * <Sha224 as Digest>::output_size()
}

/// The submission that made an object.
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
        UserName::from_headers([name.as_bytes()]).unwrap()
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
