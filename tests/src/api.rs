//! A client of the API, for one user.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::{TaskStatus, VolumeStatus};

use crate::{TaskBuilder, eventually};

/// One user's access to a server.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    user: Vec<u8>,
}

/// The body of `GET /tasks`.
#[derive(Deserialize)]
struct TaskList {
    tasks: Vec<TaskStatus>,
}

/// The body of `GET /volumes`.
#[derive(Deserialize)]
struct VolumeList {
    volumes: Vec<VolumeStatus>,
}

/// A status and a JSON body, for tests of the JSON itself and of errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Returns the body of a 200 response.
    #[must_use]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Returns the body of a 200 response as a type.
    #[must_use]
    pub fn parsed<T: DeserializeOwned>(self) -> T {
        let body = self.ok();
        T::deserialize(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Returns the task's ID in the response to a submit.
    #[must_use]
    pub fn task_id(self) -> String {
        self.id("task_id")
    }

    fn id(self, key: &str) -> String {
        let body = self.ok();
        body[key]
            .as_str()
            .unwrap_or_else(|| panic!("no `{key}`: {body}"))
            .to_owned()
    }

    /// Returns the `detail` of an error response with this status.
    #[must_use]
    pub fn error(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        match &self.body["detail"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Returns the path, type, and message of the only error of a 422 response.
    #[must_use]
    pub fn invalid(self) -> (String, String, String) {
        assert_eq!(self.status, 422, "{}", self.body);
        let errors = self.body["detail"].as_array().expect("`detail` is not a list");
        assert_eq!(errors.len(), 1, "{}", self.body);
        let path: Vec<String> = errors[0]["loc"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
            .collect();
        let text = |key: &str| errors[0][key].as_str().unwrap().to_owned();
        (path.join("."), text("type"), text("msg"))
    }
}

impl Api {
    /// Creates a client for `user` of the server at `base`.
    #[must_use]
    pub fn new(base: &str, user: impl AsRef<[u8]>) -> Self {
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            base: base.to_owned(),
            user: user.as_ref().to_vec(),
        }
    }

    /// Returns a client for another user of the same server.
    #[must_use]
    pub fn as_user(&self, user: impl AsRef<[u8]>) -> Self {
        Self {
            user: user.as_ref().to_vec(),
            ..self.clone()
        }
    }

    /// The URL of the server.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Builds a request without sending it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .header("X-User", self.user.as_slice())
    }

    /// Sends a request; `None` if there is no response.
    pub async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.ok()?;
        Some(Answer {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    /// Sends a request that must be answered.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the server does not respond")
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends a POST request with a JSON body.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a DELETE request.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Submits a valid task and returns its ID.
    pub async fn submit(&self, task: &impl Serialize) -> String {
        self.try_submit(task).await.task_id()
    }

    /// Submits a task that may be rejected.
    pub async fn try_submit(&self, task: &impl Serialize) -> Answer {
        self.post("/tasks/submit", task).await
    }

    /// Submits a bash script and returns the ID of the task.
    pub async fn run(&self, run: &str) -> String {
        self.submit(&TaskBuilder::new(run)).await
    }

    /// Submits a task with an idempotency key; `None` if there is no response.
    pub async fn submit_once(&self, key: &str, task: &impl Serialize) -> Option<Answer> {
        let request = self
            .request(Method::POST, "/tasks/submit")
            .header("Idempotency-Key", key);
        self.try_send(request.json(task)).await
    }

    /// Stops a task.
    pub async fn stop(&self, id: &str) -> Answer {
        self.post(&format!("/tasks/{id}/stop"), &Value::Null).await
    }

    /// Requests the status of a task that may not exist.
    pub async fn try_status(&self, id: &str) -> Answer {
        self.get(&format!("/tasks/{id}")).await
    }

    /// Returns the status of an existing task.
    pub async fn status(&self, id: &str) -> TaskStatus {
        self.try_status(id).await.parsed()
    }

    /// Returns this user's tasks.
    pub async fn tasks(&self) -> Vec<TaskStatus> {
        self.get("/tasks").await.parsed::<TaskList>().tasks
    }

    /// Returns the IDs of this user's tasks.
    pub async fn task_ids(&self) -> Vec<String> {
        self.tasks().await.into_iter().map(|task| task.task_id).collect()
    }

    /// Waits until a task is in a state.
    pub async fn wait_for(&self, id: &str, state: TaskState) -> TaskStatus {
        let what = format!("task {id} to be {state}");
        self.wait_for_status(id, Duration::from_secs(90), &what, |status| status.status == state)
            .await
    }

    /// Waits until all nodes of a task are in a state.
    pub async fn wait_for_nodes(&self, id: &str, state: TaskState) -> TaskStatus {
        let what = format!("all nodes of task {id} to be {state}");
        self.wait_for_status(id, Duration::from_secs(60), &what, |status| {
            status.metadata.nodes.iter().all(|node| node.status == state)
        })
        .await
    }

    /// Waits until a task has this reason.
    pub async fn wait_for_reason(&self, id: &str, reason: &str) -> TaskStatus {
        let what = format!("task {id} to have the reason {reason}");
        self.wait_for_status(id, Duration::from_secs(60), &what, |status| {
            status.reason.as_deref() == Some(reason)
        })
        .await
    }

    /// Waits until the status of a task satisfies a condition.
    pub async fn wait_for_status(
        &self,
        id: &str,
        limit: Duration,
        what: &str,
        is_wanted: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        eventually(limit, what, async || {
            let status = self.status(id).await;
            is_wanted(&status).then_some(status)
        })
        .await
    }

    /// Waits until the log of a task, as far as it is written, is as wanted, and returns it.
    pub async fn wait_for_log(&self, id: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        eventually(Duration::from_secs(120), &format!("the log of task {id}"), async || {
            let log = self.log_text(id, "?follow=false").await;
            is_wanted(&log).then_some(log)
        })
        .await
    }

    /// Follows the log of a task. The body of the response ends with the log.
    pub async fn follow(&self, id: &str) -> Response {
        let request = self.request(Method::GET, &format!("/tasks/{id}/logs"));
        request.send().await.unwrap()
    }

    /// Returns the whole log of a task, after its end.
    pub async fn logs(&self, id: &str, query: &str) -> Vec<u8> {
        let response = self
            .request(Method::GET, &format!("/tasks/{id}/logs{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        response.bytes().await.unwrap().to_vec()
    }

    /// Returns the whole log of a task as text.
    pub async fn log_text(&self, id: &str, query: &str) -> String {
        String::from_utf8(self.logs(id, query).await).unwrap()
    }

    /// Creates a volume and returns its ID.
    pub async fn create_volume(&self, volume: &Value) -> String {
        self.post("/volumes/create", volume).await.id("volume_id")
    }

    /// Creates a volume of 1 MiB with the default storage class and returns its ID.
    pub async fn create_small_volume(&self, name: &str) -> String {
        self.create_volume(&json!({"name": name, "size": "1Mi"})).await
    }

    /// Requests the status of a volume that may not exist.
    pub async fn try_volume(&self, id: &str) -> Answer {
        self.get(&format!("/volumes/{id}")).await
    }

    /// Returns the status of an existing volume.
    pub async fn volume(&self, id: &str) -> VolumeStatus {
        self.try_volume(id).await.parsed()
    }

    /// Returns this user's volumes.
    pub async fn volumes(&self) -> Vec<VolumeStatus> {
        self.get("/volumes").await.parsed::<VolumeList>().volumes
    }

    /// Deletes a volume.
    pub async fn delete_volume(&self, id: &str) -> Answer {
        self.delete(&format!("/volumes/{id}")).await
    }
}
