//! The end-to-end suite: one binary, with one module per area of what the API guarantees.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue should panic")]

mod accounts; // Other accounts of the machine.
mod archive; // Records and logs of tasks that are gone.
mod archive_bucket; // An archive in a bucket that is away for a while.
mod archive_crashes; // Killed servers, and what is in the archive.
mod archive_damage; // Lost and damaged objects, and tasks that are ending.
mod archive_full; // An archive without room.
mod archive_rotation; // A log that is rotated faster than it is read.
mod background; // What the background server inherits.
mod buckets; // Copies from buckets to nodes.
mod cancel; // Canceled tasks.
mod command_line; // The CLI on a real server.
mod command_line_logs; // The CLI and logs.
mod command_line_output; // The exact output of the CLI, at several widths.
mod command_line_outputs; // The CLI and what tasks have kept.
mod containers; // What containers see, and how they are isolated.
mod contract; // Recorded requests and the manifests they created.
mod crashes; // The engine is killed at random times.
mod deviations_tasks; // Deliberate differences from the recorded implementation: tasks.
mod deviations_users; // The same for users.
mod deviations_volumes; // The same for volumes.
mod events; // Server-sent events, and what the CLI does with them.
mod faults; // Killed servers, unavailable clusters, many followers.
mod files; // Folders of users on the nodes of their tasks.
mod foreign_objects; // Objects of other clients with our labels.
mod full_disks; // The disk of the state directory is full.
mod gang; // The nodes of a task start together, know each other, and end together.
mod gpu_nodes; // Task files with GPUs, on a cluster node that has the model.
mod gpus; // Accelerators by model, and alternatives.
mod groups; // Pipelines and sweeps.
mod hooks; // What nodes run before SIGTERM.
mod hostile; // Other programs on the port, proxies, and malicious servers.
mod http; // HTTP as load balancers, proxies, browsers, and caches use it.
mod idempotency; // Repeated requests.
mod kubectl; // The real kubectl on the engine.
mod kubernetes_api; // The embedded engine compared with a real kube-apiserver.
mod kueue; // Kueue queues, if it is installed.
mod large_files; // Folders that nodes fetch from the server.
mod limits; // Requests above a limit.
mod logs; // Bytes, order, parameters, and ends of log streams.
mod operations; // Health, metrics, documents, startup, and shutdown of the server.
mod outputs; // What a task wrote and is kept.
mod pod_config; // Fields of the pod that a task sets.
mod power_cuts; // Power cuts.
mod proxies; // The recipes for nginx, Caddy, and HAProxy.
mod repositories; // Git repositories on the nodes of tasks.
mod responses; // The shapes of response bodies.
mod secrets; // Secrets of a task.
mod shared_cluster; // Effects of a shared cluster: webhooks, sidecars, disruptions, quotas, policies.
mod state_directory; // The owner of the state directory, and unknown contents.
mod states; // Why a task is pending or has failed.
mod task_files; // The corpus of task files.
mod termination; // SIGTERM, grace periods, and output of ending nodes.
mod time_limits; // The provisioning timeout, the time limit, and the TTL.
mod timing; // Behavior with a time limit; runs alone.
mod upgrade; // Objects that an earlier version created.
mod usage; // What tasks used.
mod volumes_and_ports; // Volumes for one run, sharing, and ports.
mod volumes_copy; // What is in a volume, and copies to and from it.
