//! What a submit creates: one task, or a group of tasks.

use std::path::Path;

use serde_json::{Value, json};

use super::documents::{Document, split_documents};
use super::file::{TaskFile, read_file};
use super::local_files::{self, FileSets, LocalPart};
use super::overrides::Overrides;
use super::sweep::{SweepArgs, SweepPoint};
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::report::Report;

/// The maximum number of documents of a file: those of a pipeline, and one that only names it.
const MAX_DOCUMENTS: usize = 101;

/// The keys of a document that only describes the pipeline, or a job group of SkyPilot.
const HEADER_KEYS: [&str; 4] = ["name", "execution", "primary_tasks", "termination_delay"];

/// One task, or a group of tasks.
#[derive(Debug)]
pub(crate) enum TaskSet {
    /// One task.
    Single(TaskFile),
    /// Tasks that run one after the other.
    Pipeline { name: Option<String>, tasks: Vec<TaskFile> },
    /// The same task with different variables.
    Sweep {
        task: TaskFile,
        points: Vec<SweepPoint>,
        max_parallel: Option<u32>,
    },
}

/// The parts of a task of the submit request that are on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskParts {
    /// The number of the file that names them.
    pub file: usize,
    pub parts: Vec<LocalPart>,
}

impl TaskSet {
    /// Reads a file; `-` is standard input.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (name, text) = read_file(path)?;
        let stem = path.file_stem().and_then(|stem| task::Name::new(stem.to_str()?));
        Self::parse(name, &text, stem.map(|stem| stem.to_string()))
    }

    /// Parses the text of a file. `name` is used in messages, and `default_name` names a pipeline without a name.
    pub(crate) fn parse(name: String, text: &str, default_name: Option<String>) -> Result<Self> {
        let documents = split_documents(text);
        if documents.len() <= 1 {
            let text = documents.first().map(Document::at_its_line).unwrap_or_default();
            let mut task = TaskFile::parse(name, text)?;
            task.add_missing_run();
            return Ok(Self::Single(task));
        }
        if documents.len() > MAX_DOCUMENTS {
            return Err(Error::Usage(format!(
                "`{name}` has {} documents; a pipeline can have at most {}",
                documents.len(),
                MAX_DOCUMENTS - 1
            )));
        }
        let parse = |document: &Document| TaskFile::parse(name.clone(), document.at_its_line());
        let mut tasks: Vec<TaskFile> = documents.iter().map(parse).collect::<Result<_>>()?;
        let header = tasks.remove(0);
        let mut pipeline_name = default_name;
        if is_header(header.body()) {
            check_execution(&header)?;
            if let Some(name) = header.body()["name"].as_str() {
                pipeline_name = Some(name.to_owned());
            }
        } else {
            tasks.insert(0, header);
        }
        tasks.iter_mut().for_each(TaskFile::add_missing_run);
        match <[TaskFile; 1]>::try_from(tasks) {
            Ok([mut only]) => {
                only.set_default_name(pipeline_name.as_deref());
                Ok(Self::Single(only))
            }
            Err(tasks) => Ok(Self::Pipeline {
                name: pipeline_name,
                tasks,
            }),
        }
    }

    /// A task that runs a command.
    pub(crate) fn from_command(words: &[String]) -> Result<Self> {
        TaskFile::from_command(words).map(Self::Single)
    }

    /// Applies flags: to each task, except that `--name` names a pipeline.
    pub(crate) fn apply(self, overrides: &Overrides, sweep: &SweepArgs) -> Result<Self> {
        let points = sweep.points()?;
        match self {
            Self::Single(mut task) => {
                task.apply(overrides)?;
                Ok(match points {
                    None => Self::Single(task),
                    Some(points) => Self::Sweep {
                        task,
                        points,
                        max_parallel: sweep.max_parallel,
                    },
                })
            }
            Self::Pipeline { .. } if points.is_some() => Err(Error::Usage(
                "`--sweep` and `--num-jobs` need a file with one task; this one is a pipeline".to_owned(),
            )),
            Self::Pipeline { name, mut tasks } => {
                let of_each = Overrides {
                    name: None,
                    ..overrides.clone()
                };
                let name = overrides.name.clone().or(name);
                for (number, task) in (1..).zip(&mut tasks) {
                    task.apply(&of_each)?;
                    let default = name.as_ref().map(|name| format!("{name}-{number}"));
                    task.set_default_name(default.as_deref());
                }
                Ok(Self::Pipeline { name, tasks })
            }
            Self::Sweep { .. } => Ok(self),
        }
    }

    /// Validates all tasks with the same rules as the server, as far as that is possible locally.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Self::Sweep { task, points, .. } = self {
            let name = task.body()["name"].as_str().map(str::to_owned);
            // The first point stands for all: they differ in the values of variables.
            let first = points
                .first()
                .map(|point| at_point(task.body(), name.as_deref(), point));
            return task.validate_as(first.as_ref());
        }
        self.files().iter().try_for_each(TaskFile::validate)
    }

    /// Sets an environment variable of each task that does not set it.
    pub(crate) fn set_default_variable(&mut self, name: &str, value: &str) {
        for task in self.files_mut() {
            task.set_default_variable(name, value);
        }
    }

    /// Gives each task the caller's credential for its repository, unless it has one. Returns the variables of the caller
    /// that have them, each once.
    pub(crate) fn add_git_credentials(&mut self) -> Result<Vec<&'static str>> {
        let mut all = Vec::new();
        for task in self.files_mut() {
            all.extend(task.add_git_credential()?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// The warnings about all tasks, each once.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for warning in self.files().iter().flat_map(TaskFile::warnings) {
            if !all.contains(warning) {
                all.push(warning.clone());
            }
        }
        all
    }

    /// Whether it is a group.
    pub(crate) fn is_group(&self) -> bool {
        !matches!(self, Self::Single(_))
    }

    /// The path of the submit request.
    pub(crate) fn path(&self) -> &'static str {
        if self.is_group() {
            "/groups/submit"
        } else {
            "/tasks/submit"
        }
    }

    /// The folders and files of this machine in each task of the submit request.
    pub(crate) fn local_parts(&self) -> Result<Vec<TaskParts>> {
        let mut all = Vec::new();
        for (file, task) in self.tasks_of(&mut self.body()) {
            let parts = self.files()[file].local_parts(task)?;
            all.push(TaskParts { file, parts });
        }
        Ok(all)
    }

    /// The body of the submit request with uploaded file sets in the place of the parts that are on this machine.
    pub(crate) fn body_with(&self, parts: &[TaskParts], sets: &FileSets) -> Value {
        let mut body = self.body();
        for ((_, task), of_task) in self.tasks_of(&mut body).into_iter().zip(parts) {
            local_files::replace(task, &of_task.parts, sets);
        }
        body
    }

    /// Whether each task of the submit request keeps something.
    pub(crate) fn have_outputs(&self) -> Vec<bool> {
        let has = |task: &Value| {
            task["outputs"]
                .as_object()
                .is_some_and(|outputs| outputs.values().any(Value::is_string))
        };
        self.tasks_of(&mut self.body())
            .iter()
            .map(|(_, task)| has(task))
            .collect()
    }

    /// Each `workdir` of a file that is a folder of the container, but probably meant to be one of this machine.
    pub(crate) fn mistaken_workdirs(&self) -> Vec<String> {
        let mut all: Vec<String> = self.files().iter().filter_map(TaskFile::mistaken_workdir).collect();
        all.dedup();
        all
    }

    /// The tasks in the body of a submit request, each with the number of its file. All of a sweep have the same.
    fn tasks_of<'b>(&self, body: &'b mut Value) -> Vec<(usize, &'b mut Value)> {
        if !self.is_group() {
            return vec![(0, body)];
        }
        let last = self.files().len() - 1;
        let tasks = body.get_mut("tasks").and_then(Value::as_array_mut);
        let tasks = tasks.into_iter().flatten().enumerate();
        tasks.map(|(number, task)| (number.min(last), task)).collect()
    }

    /// The body of the submit request, with what is on this machine as it is written.
    pub(crate) fn body(&self) -> Value {
        match self {
            Self::Single(task) => task.body().clone(),
            Self::Pipeline { name, tasks } => {
                let tasks: Vec<&Value> = tasks.iter().map(TaskFile::body).collect();
                with_name(json!({"execution": "serial", "tasks": tasks}), name.as_deref())
            }
            Self::Sweep {
                task,
                points,
                max_parallel,
            } => {
                let name = task.body()["name"].as_str();
                let tasks: Vec<Value> = points.iter().map(|point| at_point(task.body(), name, point)).collect();
                let mut body = json!({"execution": "parallel", "tasks": tasks});
                if let Some(most) = max_parallel {
                    body["max_parallel"] = json!(most);
                }
                with_name(body, name)
            }
        }
    }

    /// Shows errors from the server at their locations in the file.
    pub(crate) fn report(&self, errors: &[FieldError]) -> Report {
        let files = self.files();
        let mut of_task: Vec<Vec<FieldError>> = files.iter().map(|_| Vec::new()).collect();
        for error in errors {
            let mut error = error.clone();
            let mut index = 0;
            if self.is_group() && error.loc.get(1) == Some(&json!("tasks")) && error.loc.len() > 2 {
                let at = error.loc[2].as_u64().and_then(|at| usize::try_from(at).ok());
                // All tasks of a sweep are the same file.
                index = at.filter(|at| *at < files.len()).unwrap_or(0);
                error.loc.drain(1..3);
            }
            if !of_task[index].contains(&error) {
                of_task[index].push(error);
            }
        }
        let reports = files.iter().zip(of_task).filter(|(_, errors)| !errors.is_empty());
        Report::joined(reports.map(|(file, errors)| file.report(&errors)))
    }

    /// Shows an error in a folder or file of this machine where the task names it.
    pub(crate) fn report_part(&self, number: usize, part: &LocalPart, message: &str) -> Report {
        self.files()[number].report_value(&part.key, message)
    }

    fn files(&self) -> &[TaskFile] {
        match self {
            Self::Single(task) | Self::Sweep { task, .. } => std::slice::from_ref(task),
            Self::Pipeline { tasks, .. } => tasks,
        }
    }

    fn files_mut(&mut self) -> &mut [TaskFile] {
        match self {
            Self::Single(task) | Self::Sweep { task, .. } => std::slice::from_mut(task),
            Self::Pipeline { tasks, .. } => tasks,
        }
    }
}

/// Whether a document only describes the pipeline.
fn is_header(body: &Value) -> bool {
    let keys = body.as_object().map(|fields| fields.keys()).into_iter().flatten();
    body.is_object() && keys.clone().all(|key| HEADER_KEYS.contains(&key.as_str())) && keys.count() > 0
}

fn check_execution(header: &TaskFile) -> Result<()> {
    let reason = match &header.body()["execution"] {
        Value::Null => return check_job_group_keys(header),
        Value::String(text) if text == "serial" => return check_job_group_keys(header),
        Value::String(text) if text == "parallel" => {
            "a job group, whose tasks must run at once, is not supported; submit them as tasks of their own if they don't \
             need each other"
                .to_owned()
        }
        other => format!("invalid execution `{other}`; expected `serial`"),
    };
    Err(Error::InvalidTask(header.report_value(&["execution"], &reason)))
}

/// Fails if a pipeline has keys of a job group.
fn check_job_group_keys(header: &TaskFile) -> Result<()> {
    let found = HEADER_KEYS[2..].iter().find(|key| !header.body()[**key].is_null());
    match found {
        None => Ok(()),
        Some(key) => Err(Error::InvalidTask(header.report_value(
            &[*key],
            "only a job group has this key, and job groups are not supported",
        ))),
    }
}

/// The task with the variables of one point of a sweep.
fn at_point(body: &Value, name: Option<&str>, point: &SweepPoint) -> Value {
    let mut body = body.clone();
    if let Some(name) = name {
        body["name"] = json!(format!("{name}-{}", point.suffix));
    }
    if body["envs"].is_null() {
        body["envs"] = json!({});
    }
    for (variable, value) in &point.variables {
        body["envs"][variable.as_str()] = json!(value);
    }
    body
}

fn with_name(mut body: Value, name: Option<&str>) -> Value {
    if let Some(name) = name {
        body["name"] = json!(name);
    }
    body
}
