//! The public interface of this crate: everything the API does to tasks and volumes.

mod file_access;
mod past_tasks;
mod task_events;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use kube::Client;
use task::wire::{ClusterNode, GpuModel, VolumeStatus};
use task::{GroupDefinition, Id, TaskState, UserName, VolumeDefinition};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archiving::Archiver;
use crate::cache::{Cache, Counts, Health, TaskSnapshot, Volume};
use crate::controller::ControllerContext;
use crate::delivery;
use crate::dry_run::DryRun;
use crate::error::Error;
use crate::gang::CancelOutcome;
use crate::group::SubmittedGroup;
use crate::kubernetes::ApiClient;
use crate::logs::{LogOptions, LogStreams, LogTruncated};
use crate::permissions::Permissions;
use crate::placement::{Inventory, Machine, PodUsage};
use crate::settings::Settings;
use crate::stop::StopContext;
use crate::submit::{SubmitRequest, Submitted};
use crate::{cache, cluster_nodes, dry_run, gang, group, orphans, permissions, placement, stop, submit, ttl, volumes};

/// How long the first lists may take. Even 20,000 tasks arrive sooner.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// How often to check whether they have arrived.
const SYNC_POLL: Duration = Duration::from_millis(5);

/// How long the first call may take: a wrong address should fail before the user gives up waiting.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// The tasks and volumes of one namespace.
pub struct Executor {
    client: ApiClient,
    cache: Arc<Cache>,
    kubernetes_version: String,
    health: Arc<Health>,
    permissions: Arc<Permissions>,
    logs: LogStreams,
    archiver: Option<Arc<Archiver>>,
    settings: Arc<Settings>,
    inventory: Arc<Inventory>,
    /// Held while the pods of all namespaces are listed.
    listing_pods: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Executor {
    /// Starts watching the namespace, and returns once the cache is in sync.
    ///
    /// # Errors
    /// Kubernetes does not answer, the namespace does not exist, or a permission that the watches need is missing.
    pub async fn start(client: Client, settings: Settings) -> Result<Self, Error> {
        let namespace = settings
            .namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned());
        let client = ApiClient::new(client, namespace.clone(), settings.clock);
        let kubernetes_version = client.server_version(REACH_TIMEOUT).await?;
        let permissions = Arc::new(Permissions::default());
        permissions.review(&client).await?;
        if let Err(error) = permissions.check(&namespace) {
            match error {
                Error::NamespaceNotFound { .. } => return Err(error),
                // Missing permissions can be granted while the server runs; until then, it is not ready.
                error => tracing::error!(%error, "the server is not ready"),
            }
        }
        let cache = Arc::new(Cache::new(namespace, settings.clock, gang::is_reconciled));
        let logs = LogStreams::new(client.clone(), Arc::clone(&cache), settings.archive.clone());
        let health: Arc<Health> = Arc::default();
        let executor = Self {
            archiver: settings
                .archive
                .clone()
                .map(|archive| Archiver::new(archive, logs.pod_origin(), Arc::clone(&health))),
            logs,
            client,
            cache,
            kubernetes_version,
            health,
            permissions,
            settings: Arc::new(settings),
            inventory: Arc::default(),
            listing_pods: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let (client, cache, health) = (&executor.client, &executor.cache, &executor.health);
        let ports = &executor.settings.pods.ports;
        cache::spawn_watches(client, cache, health, ports, (&executor.stop, &executor.tracker));
        executor.wait_for_sync().await?;
        cache.finish_initial_sync();
        executor.spawn_controllers();
        Ok(executor)
    }

    fn stop_context(&self) -> StopContext {
        StopContext {
            client: self.client.clone(),
            cache: Arc::clone(&self.cache),
            archiver: self.archiver.clone(),
        }
    }

    /// Starts the background controllers.
    fn spawn_controllers(&self) {
        let context = ControllerContext {
            client: self.client.clone(),
            cache: Arc::clone(&self.cache),
            health: Arc::clone(&self.health),
            stop: self.stop.clone(),
            log_throttle: Arc::default(),
            sync_delay: self.settings.sync_delay,
            archiver: self.archiver.clone(),
        };
        let tracker = &self.tracker;
        if let Some(archiver) = &self.archiver {
            let (stop, spawner) = (self.stop.clone(), tracker.clone());
            tracker.spawn(Arc::clone(archiver).run(stop, spawner));
        }
        tracker.spawn(gang::run_reconciler(context.clone()));
        tracker.spawn(gang::run_preemption(context.clone()));
        tracker.spawn(gang::run_provision_timeout(context.clone()));
        tracker.spawn(gang::run_missing_jobs(context.clone()));
        tracker.spawn(group::run(context.clone()));
        tracker.spawn(group::run_roll_forward(context.clone()));
        tracker.spawn(orphans::run(context.clone()));
        tracker.spawn(delivery::run_release(context.clone()));
        tracker.spawn(permissions::monitor(
            Arc::clone(&self.permissions),
            self.client.clone(),
            self.stop.clone(),
        ));
        tracker.spawn(ttl::run(context));
    }

    /// The namespace of all tasks and volumes.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.client.namespace()
    }

    /// The version of Kubernetes when the executor started.
    #[must_use]
    pub fn kubernetes_version(&self) -> &str {
        &self.kubernetes_version
    }

    /// The cluster nodes. Listing them needs a cluster-wide permission that the server may lack.
    pub async fn cluster_nodes(&self) -> Result<Vec<ClusterNode>, Error> {
        let nodes = self.client.nodes().await?;
        let machines = nodes.into_iter().map(Machine::from_resource);
        Ok(machines.map(|machine| cluster_nodes::summarize(&machine)).collect())
    }

    /// The accelerators of the cluster by model, and who uses them. Without permission to list the pods of all
    /// namespaces, those of other namespaces are missing.
    pub async fn gpus(&self) -> Result<Vec<GpuModel>, Error> {
        let machines = self.inventory.machines(&self.client).await?;
        let machines = machines.ok_or(Error::NodesForbidden)?;
        // Only one at a time: each reads all pods of the cluster.
        let _turn = self.listing_pods.lock().await;
        let namespace = self.namespace();
        let used = self
            .client
            .select_pods(|pod| PodUsage::from_resource(pod, namespace))
            .await?;
        Ok(placement::summarize(&machines, &used))
    }

    /// Whether the cache is recent enough to answer from.
    ///
    /// # Errors
    /// [`Error::OutOfSync`] if the Kubernetes API has not confirmed its state for a while.
    pub fn check_in_sync(&self) -> Result<(), Error> {
        self.health.check()
    }

    /// Whether the server can do its work: the cache is up to date, no permission is missing, and Kubernetes reports
    /// that it is ready.
    ///
    /// # Errors
    /// [`Error::OutOfSync`], [`Error::NamespaceNotFound`], [`Error::MissingPermissions`], or Kubernetes' own report.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.health.check()?;
        self.permissions.check(self.namespace())?;
        self.client.check_ready().await
    }

    /// The number of objects in the cache.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.cache.counts()
    }

    /// The time since the last watch event.
    #[must_use]
    pub fn cache_age(&self) -> Option<Duration> {
        self.cache.age()
    }

    /// Submits a task: creates all of its objects, or none. Continues even if the caller drops the future.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::Unplaceable`], [`Error::IdempotencyKeyReused`], or a rejection by Kubernetes.
    pub async fn submit(&self, request: SubmitRequest) -> Result<Submitted, Error> {
        self.health.check()?;
        let (client, cache) = self.handles();
        let (inventory, settings) = (Arc::clone(&self.inventory), Arc::clone(&self.settings));
        let submit = async move { submit::submit(&client, &cache, &inventory, request, &settings).await };
        self.run_to_completion(submit).await
    }

    /// The objects that a submit would create, validated by Kubernetes. Creates nothing.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::Unplaceable`], or a rejection by Kubernetes.
    pub async fn dry_run(&self, request: SubmitRequest) -> Result<DryRun, Error> {
        self.health.check()?;
        dry_run::dry_run(&self.client, &self.cache, &self.inventory, request, &self.settings).await
    }

    /// Submits a group: creates the objects of all of its tasks, or none. Continues even if the caller drops the future.
    ///
    /// # Errors
    /// [`Error::InGroup`] if a task is rejected, [`Error::IdempotencyKeyReused`], or a failure of Kubernetes.
    pub async fn submit_group(&self, request: SubmitRequest<GroupDefinition>) -> Result<SubmittedGroup, Error> {
        self.health.check()?;
        let (client, cache) = self.handles();
        let (inventory, settings) = (Arc::clone(&self.inventory), Arc::clone(&self.settings));
        let submit = async move { group::submit(&client, &cache, &inventory, request, &settings).await };
        self.run_to_completion(submit).await
    }

    /// The objects that a submit of a group would create. Validates the first Job of each task, and creates nothing.
    ///
    /// # Errors
    /// [`Error::InGroup`] if a task is rejected, or a failure of Kubernetes.
    pub async fn dry_run_group(&self, request: SubmitRequest<GroupDefinition>) -> Result<DryRun, Error> {
        self.health.check()?;
        group::dry_run(&self.client, &self.cache, &self.inventory, request, &self.settings).await
    }

    /// The tasks of the group with this ID that belong to the user, in the order of the group. Empty if there is no such
    /// group.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn group(&self, user: &UserName, id: &str) -> Result<Vec<(String, Arc<TaskSnapshot>)>, Error> {
        self.health.check()?;
        Ok(self.cache.group(user, id))
    }

    /// Cancels the unfinished tasks of a group. Returns how many, or `None` if there is no such group.
    ///
    /// # Errors
    /// [`Error::CancelAll`] if some could not be canceled.
    pub async fn cancel_group(&self, user: &UserName, id: &str) -> Result<Option<usize>, Error> {
        let tasks = self.group(user, id)?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let is_unfinished = |snapshot: &TaskSnapshot| !snapshot.state.is_final() && !snapshot.terminating;
        let tasks = tasks.into_iter().filter(|(_, snapshot)| is_unfinished(snapshot));
        let (client, cache) = self.handles();
        let (tasks, user) = (not_started_first(tasks), user.clone());
        self.run_to_completion(async move { gang::cancel_all(&client, &cache, tasks, &user).await.map(Some) })
            .await
    }

    /// Stops the tasks of a group. Returns how many, or `None` if there is no such group.
    ///
    /// # Errors
    /// [`Error::StopAll`] if some could not be stopped.
    pub async fn stop_group(&self, user: &UserName, id: &str) -> Result<Option<usize>, Error> {
        let tasks = self.group(user, id)?;
        if tasks.is_empty() {
            return Ok(None);
        }
        let tasks = tasks.into_iter().filter(|(_, snapshot)| !snapshot.terminating);
        let (context, tasks, user) = (self.stop_context(), not_started_first(tasks), user.clone());
        self.run_to_completion(async move { stop::stop_all(&context, tasks, &user).await.map(Some) })
            .await
    }

    /// The task with this ID, if it belongs to the user.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn task(&self, user: &UserName, id: &str) -> Result<Option<Arc<TaskSnapshot>>, Error> {
        self.health.check()?;
        Ok(self.cache.task(user, id))
    }

    /// The tasks of one user, or of all users, oldest first.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn tasks(&self, user: Option<&UserName>) -> Result<Vec<(String, Arc<TaskSnapshot>)>, Error> {
        self.health.check()?;
        Ok(self.cache.tasks(user))
    }

    /// Stops a task of this user. Returns whether it existed.
    pub async fn stop(&self, user: &UserName, id: &str) -> Result<bool, Error> {
        let Some(snapshot) = self.task(user, id)? else {
            return Ok(false);
        };
        let (context, user) = (self.stop_context(), user.clone());
        self.run_to_completion(async move { stop::stop(&context, &snapshot, &user).await })
            .await?;
        Ok(true)
    }

    /// Stops the tasks of one user, or of all users, for `requester`. Returns how many.
    ///
    /// # Errors
    /// [`Error::StopAll`] if some could not be stopped.
    pub async fn stop_all(&self, user: Option<&UserName>, requester: &UserName) -> Result<usize, Error> {
        // Don't count tasks that are already being stopped.
        let tasks = self
            .tasks(user)?
            .into_iter()
            .filter(|(_, snapshot)| !snapshot.terminating)
            .collect();
        let (context, requester) = (self.stop_context(), requester.clone());
        self.run_to_completion(async move { stop::stop_all(&context, tasks, &requester).await })
            .await
    }

    /// Cancels a task of this user: ends its nodes, and keeps its status and log.
    ///
    /// # Errors
    /// [`Error::CancelConflict`], or a rejection by Kubernetes.
    pub async fn cancel(&self, user: &UserName, id: &str) -> Result<CancelOutcome, Error> {
        let Some(snapshot) = self.task(user, id)? else {
            return Ok(CancelOutcome::NotFound);
        };
        let ((client, cache), user) = (self.handles(), user.clone());
        self.run_to_completion(async move { gang::cancel(&client, &cache, &snapshot.key, Some(&user)).await })
            .await
    }

    /// Cancels the unfinished tasks of one user, or of all users, for `requester`. Returns how many.
    ///
    /// # Errors
    /// [`Error::CancelAll`] if some could not be canceled.
    pub async fn cancel_all(&self, user: Option<&UserName>, requester: &UserName) -> Result<usize, Error> {
        let is_unfinished = |snapshot: &TaskSnapshot| !snapshot.state.is_final() && !snapshot.terminating;
        let tasks = self.tasks(user)?.into_iter();
        let tasks = tasks.filter(|(_, snapshot)| is_unfinished(snapshot)).collect();
        let ((client, cache), requester) = (self.handles(), requester.clone());
        self.run_to_completion(async move { gang::cancel_all(&client, &cache, tasks, &requester).await })
            .await
    }

    /// The log of a task, if it belongs to the user.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn logs(
        &self,
        user: &UserName,
        id: &str,
        options: &LogOptions,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, LogTruncated>> + Send + use<>>, Error> {
        let snapshot = self.task(user, id)?;
        Ok(snapshot.map(|snapshot| self.logs.stream(&snapshot, options)))
    }

    /// Creates a volume and returns its ID.
    pub async fn create_volume(&self, user: UserName, definition: VolumeDefinition) -> Result<Id, Error> {
        self.health.check()?;
        let (client, cache) = self.handles();
        self.run_to_completion(async move { volumes::create(&client, &cache, &user, &definition).await })
            .await
    }

    /// The volumes of one user, or of all users, oldest first.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn volumes(&self, user: Option<&UserName>) -> Result<Vec<VolumeStatus>, Error> {
        self.health.check()?;
        let volumes = self.cache.volumes(user);
        Ok(volumes
            .into_iter()
            .map(|volume| volumes::status(volume, self.namespace()))
            .collect())
    }

    /// The volume with this ID, if it belongs to the user.
    ///
    /// # Errors
    /// [`Error::OutOfSync`].
    pub fn volume(&self, user: &UserName, id: &str) -> Result<Option<VolumeStatus>, Error> {
        let volume = self.find_volume(user, id)?;
        Ok(volume.map(|volume| volumes::status(volume, self.namespace())))
    }

    /// Deletes a volume of this user. Returns the tasks that still use it, or `None` if the volume was not found.
    pub async fn delete_volume(&self, user: &UserName, id: &str) -> Result<Option<Vec<String>>, Error> {
        let Some(volume) = self.find_volume(user, id)? else {
            return Ok(None);
        };
        let (client, cache) = self.handles();
        let users = self
            .run_to_completion(async move { volumes::delete(&client, &cache, &volume).await })
            .await?;
        Ok(Some(users))
    }

    /// Stops the watches and waits for changes in progress.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn find_volume(&self, user: &UserName, id: &str) -> Result<Option<Volume>, Error> {
        self.health.check()?;
        Ok(self
            .cache
            .volumes(Some(user))
            .into_iter()
            .find(|volume| volume.id == id))
    }

    fn handles(&self) -> (ApiClient, Arc<Cache>) {
        (self.client.clone(), Arc::clone(&self.cache))
    }

    /// Runs a change to completion in its own tokio task: a client that disconnects must not leave it half done.
    async fn run_to_completion<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.tracker.spawn(change).await?
    }

    async fn wait_for_sync(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SYNC_TIMEOUT;
        while self.health.check().is_err() {
            if Instant::now() >= deadline {
                self.stop.cancel();
                return Err(Error::InitialSyncTimeout {
                    limit: SYNC_TIMEOUT,
                    reason: self.health.last_failure().unwrap_or_else(|| "no response".to_owned()),
                });
            }
            sleep(SYNC_POLL).await;
        }
        Ok(())
    }
}

/// The tasks of a group in the order in which they are ended: those that have not started first, from the last one, so
/// that none starts when others end.
fn not_started_first(tasks: impl Iterator<Item = (String, Arc<TaskSnapshot>)>) -> Vec<(String, Arc<TaskSnapshot>)> {
    let mut tasks: Vec<_> = tasks.collect();
    tasks.reverse();
    tasks.sort_by_key(|(_, snapshot)| snapshot.state != TaskState::Pending);
    tasks
}
