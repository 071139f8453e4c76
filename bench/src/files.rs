//! Benchmark of the files of tasks: a large folder to several nodes next to plain copies, and what an unchanged folder adds
//! to a submit.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Verdict;
use crate::embedded::Scratch;
use crate::measure::{Samples, mebibytes, milliseconds};
use crate::server::{Server, peak_of};

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Size of the large folder, in MiB
    #[arg(long, default_value_t = 1024)]
    mebibytes: u32,

    /// Number of nodes that it goes to
    #[arg(long, default_value_t = 4)]
    nodes: u32,

    /// Number of files in the folder that does not change
    #[arg(long, default_value_t = 2000)]
    files: u32,

    /// Number of submits with and without it
    #[arg(long, default_value_t = 20)]
    submits: usize,
}

/// The CLI of the same build, with a home of its own.
struct CommandLine<'a> {
    program: PathBuf,
    server: &'a Server,
    home: &'a Path,
}

impl CommandLine<'_> {
    fn start(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let command = Command::new(&self.program)
            .args(["jobs", "submit"])
            .args(arguments)
            .env("K8S_CLI_API_URL", format!("http://{}", self.server.address))
            .env("K8S_CLI_USER", "bench")
            .env("HOME", self.home)
            .env_remove("XDG_CACHE_HOME")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        command.with_context(|| format!("cannot start `{}`", self.program.display()))
    }

    /// Runs a command to its end, and returns how long it took, and how much memory it had.
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Duration, u64)> {
        let (start, mut peak) = (Instant::now(), 0);
        let mut child = self.start(arguments)?;
        loop {
            // A process that has ended has none anymore.
            peak = peak.max(peak_of(child.id()).unwrap_or_default());
            if let Some(status) = child.try_wait()? {
                anyhow::ensure!(
                    status.success(),
                    "`k8s-cli jobs submit {}`: {status}",
                    arguments.join(" ")
                );
                return Ok((start.elapsed(), peak));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Measures with a state directory of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let text = |path: PathBuf| {
        path.to_str()
            .map(str::to_owned)
            .context("the path of the scratch folder is not UTF-8")
    };
    let (state, large, small) = (text(path("state"))?, text(path("large"))?, text(path("small"))?);
    fs::create_dir_all(path("home"))?;
    make_small(Path::new(&small), args.files)?;
    make_large(Path::new(&large), args.mebibytes)?;
    let limit = (u64::from(args.mebibytes) * 4).to_string();
    let server = Server::start(&[
        "--backend",
        "embedded",
        "--state-dir",
        &state,
        "--max-user-files",
        &limit,
        "--max-files",
        &limit,
    ])?;
    let cli = CommandLine {
        program: std::env::current_exe()?.with_file_name("k8s-cli"),
        server: &server,
        home: &path("home"),
    };
    eprintln!(
        "submitting {} times with and without a folder of {} files",
        args.submits, args.files
    );
    let (with, without) = unchanged(&cli, &small, args.submits).await?;
    eprintln!("{} MiB to {} nodes", args.mebibytes, args.nodes);
    let nodes = args.nodes.to_string();
    let to_nodes = ["--num-nodes", &nodes, "--workdir", &large, "--", "true"];
    let (time, client) = cli.run(&to_nodes).await?;
    let served = server.peak()?;
    eprintln!("the same once more, and as plain copies");
    let (again, _) = cli.run(&to_nodes).await?;
    let copied = copy(Path::new(&large), &path("copies"), args.nodes)?;
    let more = with.median().saturating_sub(without.median());
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let memory = |name, bytes: u64| Verdict {
        name,
        ours: format!("{:.0} MiB", mebibytes(bytes)),
        beside: String::new(),
        bound: "under 100 MiB",
        kept: bytes < 100 << 20,
    };
    Ok(vec![
        Verdict {
            name: "submit with an unchanged folder",
            ours: format!("{:.0} ms", milliseconds(with.median())),
            beside: format!("{:.0} ms without it", milliseconds(without.median())),
            bound: "under 300 ms more",
            kept: more < Duration::from_millis(300),
        },
        Verdict {
            beside: format!("{} for plain copies", seconds(copied)),
            ..Verdict::plain("large folder, first submit to the end", seconds(time))
        },
        Verdict {
            beside: format!("{} for plain copies", seconds(copied)),
            ..Verdict::plain("large folder, unchanged", seconds(again))
        },
        memory("most memory of the server", served),
        memory("most memory of the CLI", client),
    ])
}

/// Times of submits with a folder and without, in turns.
async fn unchanged(cli: &CommandLine<'_>, folder: &str, count: usize) -> anyhow::Result<(Samples, Samples)> {
    let (mut with, mut without) = (Samples::default(), Samples::default());
    let _ = cli.run(&["-d", "--workdir", folder, "--", "true"]).await?;
    for _ in 0..count {
        with.add(cli.run(&["-d", "--workdir", folder, "--", "true"]).await?.0);
        without.add(cli.run(&["-d", "--", "true"]).await?.0);
    }
    Ok((with, without))
}

fn make_small(folder: &Path, count: u32) -> anyhow::Result<()> {
    for number in 0..count {
        let folder = folder.join(format!("part {}", number % 50));
        fs::create_dir_all(&folder)?;
        fs::write(
            folder.join(format!("file-{number}.py")),
            format!("print({number})\n").repeat(40),
        )?;
    }
    Ok(())
}

/// A folder with files of up to 256 MiB that do not compress.
fn make_large(folder: &Path, mebibytes: u32) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut block = vec![0; 1 << 20];
    let mut file = None;
    for number in 0..mebibytes {
        if number % 256 == 0 {
            file = Some(File::create(folder.join(format!("{number}.bin")))?);
        }
        random.fill(&mut block);
        file.as_mut().context("there is a file")?.write_all(&block)?;
    }
    Ok(())
}

/// Copies a folder once over a connection of this machine, as an upload, and then to each node: what nobody can do without.
fn copy(folder: &Path, into: &Path, nodes: u32) -> anyhow::Result<Duration> {
    fs::create_dir_all(into)?;
    let start = Instant::now();
    let stored = into.join("stored");
    send(folder, &stored)?;
    std::thread::scope(|scope| {
        let sending: Vec<_> = (0..nodes)
            .map(|node| {
                let (stored, into) = (&stored, into.join(format!("node-{node}")));
                scope.spawn(move || send(stored, &into))
            })
            .collect();
        sending.into_iter().try_for_each(|thread| {
            let sent = thread.join();
            sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(start.elapsed())
}

fn send(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (mut source, to) = (File::open(entry.path())?, to.join(entry.file_name()));
        let sending = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address)?;
            copy_all(&mut source, &mut stream)
        });
        let (mut stream, _) = listener.accept()?;
        copy_all(&mut stream, &mut File::create(to)?)?;
        let sent = sending.join();
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(())
}

fn copy_all(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut block = vec![0; 1 << 20];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(()),
            count => to.write_all(&block[..count])?,
        }
    }
}
