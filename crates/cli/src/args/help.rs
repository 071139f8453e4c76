//! Examples and tables below the help of commands.

macro_rules! examples {
    () => {
        "\
Examples:
  k8s-cli jobs submit task.yaml            run a task, and follow its log
  k8s-cli jobs submit -- echo hello        run a command
  k8s-cli jobs list                        your tasks
  k8s-cli jobs logs hello                  the log of a task
  k8s-cli doctor                           what works, and what does not

"
    };
}

pub const EXAMPLES: &str = concat!(examples!(), "`k8s-cli --help` has the exit codes and the variables.");

pub const LONG: &str = concat!(
    examples!(),
    "\
A task file:
  name: train
  num_nodes: 2
  resources: {cpus: 4, memory: 16Gi, accelerators: V100:1}
  envs: {EPOCHS: 3}
  volumes: {/data: my-data}
  setup: pip install --quiet numpy
  run: python3 /data/train.py --rank $NODE_RANK

Exit codes:
  0    it worked
  1    it did not
  2    what was typed, or the task file, is wrong
  3    there is no such task or volume
  4    the server, or a proxy on the way, refuses the user
  5    no server answers, or another program does
  100  `jobs submit`: the task failed
  103  the task was stopped
  124  `jobs wait` has waited for its time
  130  Ctrl-C
  with --exit-code, that of the task

Files:
  ~/.config/k8s-cli/user.json              who you are (`auth login`)
  ~/.local/share/k8s-cli                   tasks of this machine, and its server's log"
);

pub const SUBMIT: &str = "\
Examples:
  k8s-cli jobs submit task.yaml
  k8s-cli jobs submit task.yaml --num-nodes 4 --env EPOCHS=10 --env WANDB_API_KEY
  k8s-cli jobs submit --cpus 2 --memory 8 -- python3 train.py --epochs 10
  id=$(k8s-cli jobs submit -q task.yaml) && k8s-cli jobs wait $id --for completed
  k8s-cli jobs submit -- 'date > now; cat now'
  k8s-cli jobs submit task.yaml || echo it failed
  k8s-cli jobs submit task.yaml --dry-run > manifests.yaml

Ctrl-C ends the following; the task runs on.";

pub const LIST: &str = "\
Examples:
  k8s-cli jobs list --status pending,running
  k8s-cli jobs list --watch
  k8s-cli jobs list -q --status failed | xargs k8s-cli jobs stop
  k8s-cli jobs list -o json | jq -r '.tasks[].task_id'";

pub const LOGS: &str = "\
Examples:
  k8s-cli jobs logs train                  from the beginning, until the task ends
  k8s-cli jobs logs train --tail 100 --node 0
  k8s-cli jobs logs train --no-follow --since 10m > log.txt

Bytes are as the task wrote them. Lines of a task with several nodes start with `node-RANK | `.";

pub const WAIT: &str = "\
Examples:
  k8s-cli jobs wait train --timeout 2h
  k8s-cli jobs wait train --for completed && k8s-cli jobs submit evaluate.yaml

Ends with 0 when all tasks are in that state, with 1 when one never will be, with 124 when the time is over.";

pub const CREATE: &str = "\
Example:
  k8s-cli volumes create my-data 100Gi
  k8s-cli jobs submit task.yaml --volume my-data:/data";

pub const COMPLETIONS: &str = "\
Examples:
  bash:  echo 'source <(k8s-cli completions bash)' >> ~/.bashrc
  zsh:   echo 'source <(k8s-cli completions zsh)' >> ~/.zshrc
  fish:  k8s-cli completions fish > ~/.config/fish/completions/k8s-cli.fish";
