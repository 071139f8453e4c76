//! The end-to-end suite. One binary; each module is a chapter of what the API promises.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod accounts; // Other accounts of the machine.
mod background; // What the server in the background keeps of its starter.
mod command_line; // The command line on a real server.
mod command_line_logs; // What it makes of logs.
mod command_line_output; // What each of its commands prints, at all widths.
mod containers; // What a container sees, and what it cannot do to others.
mod contract; // Recorded requests and the manifests they made.
mod crashes; // The engine is killed at any instant.
mod deviations_tasks; // Where existing implementations are wrong and this one is not: tasks.
mod deviations_users; // The same for users and what they may see.
mod deviations_volumes; // The same for volumes.
mod endings; // How a node ends, and what it says on the way.
mod faults; // Servers that are killed, clusters that go away, many followers.
mod full_disks; // The disk of the state folder is full.
mod gang; // Nodes of one task start together, know each other, and end together.
mod hostile; // Other programs on the port, proxies on the way, and servers that lie.
mod idempotency; // Requests that are repeated.
mod kubectl; // The real kubectl on the engine.
mod kubernetes_api; // The embedded engine beside a real API server.
mod kueue; // Queues of Kueue, where there is one.
mod limits; // Too much at once.
mod limits_of_time; // How long a task waits, runs, and is kept.
mod logs; // Bytes, order, parameters and ends of log streams.
mod operations; // Health, metrics, documents, start and stop of the server.
mod power_cuts; // What a power cut leaves.
mod shared_cluster; // What a cluster that others use does to tasks: webhooks, sidecars, disruptions, quotas, policies.
mod state_folder; // Whose it is, and what becomes of what nobody knows.
mod states; // Why a task waits, and why it failed.
mod strangers; // What others make with our labels.
mod timing; // What has to happen in time; run alone.
