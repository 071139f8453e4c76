//! Examples and tables shown after the help of commands.

macro_rules! examples {
    () => {
        "\
Examples:
  k8s-cli jobs submit task.yaml            run a task and follow its log
  k8s-cli jobs submit -- echo hello        run a command
  k8s-cli jobs list                        list your tasks
  k8s-cli jobs logs hello                  show the log of a task
  k8s-cli doctor                           check your setup

"
    };
}

pub(crate) const EXAMPLES: &str = concat!(examples!(), "Run `k8s-cli --help` for exit codes and files.");

pub(crate) const LONG: &str = concat!(
    examples!(),
    "\
Task file:
  name: train
  num_nodes: 2
  resources: {cpus: 4, memory: 16Gi, accelerators: V100:1}
  envs: {EPOCHS: 3}
  volumes: {/data: my-data}
  setup: pip install --quiet numpy
  run: python3 /data/train.py --rank $NODE_RANK

Exit codes:
  0    success
  1    failure
  2    invalid usage or task file
  3    task, volume, or path in a volume not found
  4    permission denied by the server or a proxy
  5    server unreachable, or not a k8s-cli server
  100  `jobs submit`: the task failed
  103  the task was canceled or stopped
  124  `jobs wait` timed out
  130  interrupted with Ctrl-C
  With --exit-code, the exit code of the task

Files:
  ~/.config/k8s-cli/user.json              your user name (`auth login`)
  ~/.local/share/k8s-cli                   data and log of the server on this machine
  ~/.cache/k8s-cli                         hashes of files that were uploaded"
);

pub(crate) const SUBMIT: &str = "\
Examples:
  k8s-cli jobs submit task.yaml
  k8s-cli jobs submit task.yaml --num-nodes 4 --env EPOCHS=10 --env WANDB_API_KEY
  k8s-cli jobs submit --workdir . -- python3 train.py --epochs 10
  k8s-cli jobs submit --cpus 2 --memory 8 -- python3 -c 'print(1)'
  id=$(k8s-cli jobs submit -q task.yaml) && k8s-cli jobs wait $id --for completed
  k8s-cli jobs submit -- 'date > now; cat now'
  k8s-cli jobs submit task.yaml || echo it failed
  k8s-cli jobs submit task.yaml --dry-run > manifests.yaml

Ctrl-C stops following the log; the task keeps running.";

pub(crate) const LIST: &str = "\
Examples:
  k8s-cli jobs list --status pending,running
  k8s-cli jobs list --watch
  k8s-cli jobs list -q --status failed | xargs k8s-cli jobs stop
  k8s-cli jobs list -o json | jq -r '.tasks[].task_id'";

pub(crate) const LOGS: &str = "\
Examples:
  k8s-cli jobs logs train                  follow from the start until the task finishes
  k8s-cli jobs logs train --tail 100 --node 0
  k8s-cli jobs logs train --no-follow --since 10m > log.txt

Output is printed byte for byte. With several nodes, each line starts with `node-RANK | `.";

pub(crate) const OUTPUTS: &str = "\
Examples:
  k8s-cli jobs outputs train               write the outputs to the current folder
  k8s-cli jobs outputs train results
  k8s-cli jobs outputs train --list

Run the command again to continue a download that was interrupted.";

pub(crate) const WAIT: &str = "\
Examples:
  k8s-cli jobs wait train --timeout 2h
  k8s-cli jobs wait train --for completed && k8s-cli jobs submit evaluate.yaml

Exits with 0 once all tasks reach the state, 1 if a task can no longer reach it, and 124 on timeout.";

pub(crate) const CREATE: &str = "\
Examples:
  k8s-cli volumes create my-data 100Gi
  k8s-cli jobs submit task.yaml --volume my-data:/data";

pub(crate) const VOLUMES_LIST: &str = "\
Examples:
  k8s-cli volumes ls                       list your volumes
  k8s-cli volumes ls my-data               list the files in a volume
  k8s-cli volumes ls my-data:/train";

pub(crate) const DU: &str = "\
Examples:
  k8s-cli volumes du my-data
  k8s-cli volumes du my-data:/train";

pub(crate) const CP: &str = "\
Examples:
  k8s-cli volumes cp data my-data:/data    a folder of this machine becomes /data of the volume
  k8s-cli volumes cp model.pt my-data:/    keeps its name in a folder that ends with /
  k8s-cli volumes cp my-data:/results .

In a local path, put a slash before any colon: ./a:b. Ignore files do not apply. Run the command
again to continue a copy that was interrupted.";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  bash:  echo 'source <(k8s-cli completions bash)' >> ~/.bashrc
  zsh:   echo 'source <(k8s-cli completions zsh)' >> ~/.zshrc
  fish:  k8s-cli completions fish > ~/.config/fish/completions/k8s-cli.fish";
