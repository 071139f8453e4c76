//! A client of the API, for one user.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::eventually;

/// One user's access to a server.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    user: Vec<u8>,
}

/// A status and a JSON body.
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
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a DELETE request.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Submits a valid task and returns its ID.
    pub async fn submit(&self, task: &Value) -> String {
        let body = self.post("/tasks/submit", task).await.ok();
        body["task_id"].as_str().unwrap().to_owned()
    }

    /// Submits a bash script and returns the ID of the task.
    pub async fn run(&self, run: &str) -> String {
        self.submit(&json!({ "run": run })).await
    }

    /// Submits a task with an idempotency key.
    pub async fn submit_once(&self, key: &str, task: &Value) -> Option<Answer> {
        let request = self
            .request(Method::POST, "/tasks/submit")
            .header("Idempotency-Key", key);
        self.try_send(request.json(task)).await
    }

    /// Stops a task.
    pub async fn stop(&self, id: &str) -> Answer {
        self.post(&format!("/tasks/{id}/stop"), &Value::Null).await
    }

    /// Returns the status of an existing task.
    pub async fn status(&self, id: &str) -> Value {
        self.get(&format!("/tasks/{id}")).await.ok()
    }

    /// Returns the IDs of this user's tasks.
    pub async fn task_ids(&self) -> Vec<String> {
        let body = self.get("/tasks").await.ok();
        let tasks = body["tasks"].as_array().unwrap();
        tasks
            .iter()
            .map(|task| task["task_id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until a task is in a state.
    pub async fn wait_for(&self, id: &str, state: &str) -> Value {
        let what = format!("task {id} to be {state}");
        eventually(Duration::from_secs(90), &what, async || {
            let status = self.status(id).await;
            (status["status"] == state).then_some(status)
        })
        .await
    }

    /// Waits until all nodes of a task are in a state.
    pub async fn wait_for_nodes(&self, id: &str, state: &str) -> Value {
        let what = format!("all nodes of task {id} to be {state}");
        eventually(Duration::from_secs(60), &what, async || {
            let status = self.status(id).await;
            let mut nodes = status["metadata"]["nodes"].as_array().unwrap().iter();
            nodes.all(|node| node["status"] == state).then_some(status)
        })
        .await
    }

    /// Waits until a task has this reason.
    pub async fn wait_for_reason(&self, id: &str, reason: &str) -> Value {
        eventually(
            Duration::from_secs(60),
            &format!("task {id} to have the reason {reason}"),
            async || {
                let status = self.status(id).await;
                (status["reason"] == reason).then_some(status)
            },
        )
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
        let body = self.post("/volumes/create", volume).await.ok();
        body["volume_id"].as_str().unwrap().to_owned()
    }
}
