//! The end-to-end suite: one binary, with one module per area of what the API guarantees.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue should panic")]

mod accounts; // Other accounts of the machine.
mod background; // What the background server inherits.
mod command_line; // The CLI on a real server.
mod command_line_logs; // The CLI and logs.
mod command_line_output; // The exact output of the CLI, at several widths.
mod containers; // What a container sees, and what it cannot do to others.
mod contract; // Recorded requests and the manifests they created.
mod crashes; // The engine is killed at any time.
mod deviations_tasks; // Where the recorded implementation is wrong and this one is not: tasks.
mod deviations_users; // The same for users and what they may see.
mod deviations_volumes; // The same for volumes.
mod faults; // Killed servers, unavailable clusters, many followers.
mod foreign_objects; // Objects of other clients with our labels.
mod full_disks; // The disk of the state directory is full.
mod gang; // Nodes of one task start together, know each other, and end together.
mod hostile; // Other programs on the port, proxies, and servers that lie.
mod idempotency; // Repeated requests.
mod kubectl; // The real kubectl on the engine.
mod kubernetes_api; // The embedded engine compared with a real kube-apiserver.
mod kueue; // Queues of Kueue, if it is installed.
mod limits; // Too many requests.
mod logs; // Bytes, order, parameters, and ends of log streams.
mod operations; // Health, metrics, documents, startup, and shutdown of the server.
mod power_cuts; // What a power cut leaves.
mod responses; // The shapes of response bodies.
mod shared_cluster; // What a shared cluster does to tasks: webhooks, sidecars, disruptions, quotas, policies.
mod state_directory; // Who owns the state directory, and what happens to unknown contents.
mod states; // Why a task waits, and why it failed.
mod termination; // How a node ends.
mod time_limits; // How long a task waits, runs, and is kept.
mod timing; // What has a time limit; runs alone.
