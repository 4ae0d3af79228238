//! Two unrelated processes that know only a name, with `shm_core::channel`: no launcher, no ranks.
//!
//! ```text
//! channel serve /shout            answers in capitals, one client after the other, until it is ended
//! channel ask /shout TEXT...      asks for each TEXT and prints the replies
//! channel                         starts itself as both, and checks the replies, a kill and the cleaning up
//! ```
//!
//! Server and client may start in any order. A server that is killed is an error for its client within a second,
//! and what it leaves behind is removed by the next one who uses the name.

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use shm_core::channel::{Channel, Options};

/// Long enough for a server that is being started by hand.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
#[command(about = "Two processes that know only a name")]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Answer in capitals.
    Serve {
        /// Name of the channel, like /shout.
        name: String,
    },
    /// Ask for each text and print the replies.
    Ask {
        /// Name of the channel, like /shout.
        name: String,
        /// What to ask.
        #[arg(required = true)]
        texts: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse().part {
        Some(Part::Serve { name }) => serve(&name),
        Some(Part::Ask { name, texts }) => ask(&name, &texts),
        None => check(),
    }
}

fn serve(name: &str) -> Result<()> {
    let mut server = Channel::open_or_create(name, &Options::default())?.server()?;
    eprintln!("serving on {name}");
    loop {
        let answered = server.serve(|request| request.to_ascii_uppercase())?;
        eprintln!("answered {answered} requests, waiting for the next client");
    }
}

fn ask(name: &str, texts: &[String]) -> Result<()> {
    let mut client = Channel::open_or_create(name, &Options::default())?.client()?;
    for text in texts {
        let reply = client.request_timeout(text.as_bytes(), PATIENCE)?;
        println!("{}", String::from_utf8_lossy(&reply));
    }
    Ok(())
}

/// Both parts as processes of their own, one client after the other, then the server's sudden death.
fn check() -> Result<()> {
    let name = format!("/channel-example-{}", std::process::id());
    let mut server = Ended(start(&["serve", &name]).stderr(Stdio::null()).spawn()?);
    for text in ["one at a time", &"long ".repeat(20_000)] {
        let client = start(&["ask", &name, text]).output()?;
        ensure!(client.status.success(), "the client failed: {}", String::from_utf8_lossy(&client.stderr));
        let reply = String::from_utf8(client.stdout)?;
        ensure!(reply == format!("{}\n", text.to_ascii_uppercase()), "{} bytes came back", reply.len());
        println!("{} bytes came back in capitals", reply.len() - 1);
    }
    let mut client = Channel::open(&name)?.client()?;
    ensure!(client.request_timeout(b"still there?", PATIENCE)? == b"STILL THERE?", "a wrong reply");
    server.0.kill()?;
    server.0.wait()?;
    match client.request_timeout(b"and now?", PATIENCE) {
        Err(error @ shm_core::channel::ChannelError::PeerGone { .. }) => {
            println!("{}", first_line(&error))
        }
        Err(error) => bail!(error),
        Ok(_) => bail!("a reply from a server that was killed"),
    }
    drop(client);
    ensure!(!Channel::remove_leftover(&name)?, "the last to leave removes the name");
    println!("nothing is left behind");
    Ok(())
}

fn first_line(error: &dyn std::error::Error) -> String {
    // The name holds a process id, and the output of an example is the same in every run.
    let text = error.to_string();
    text.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, rest)| rest).to_owned()
}

fn start(arguments: &[&str]) -> Command {
    let program = env::current_exe().context("the path of this program").unwrap_or_else(|_| "channel".into());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A process that does not outlive a failed check.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
