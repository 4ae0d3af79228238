//! A request and its reply of the same size: the channel beside what systems and languages have for that.
//!
//! Each server but crossbeam's is another process on another core. All copy the request and the reply once into
//! what travels and once out of it; pipes and sockets are told the size beforehand, where the channel keeps it.

mod common;

use std::env;
use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use common::{Core, pin, warm_up};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use shm_core::channel::{Channel, ChannelError, Client, Options};

const SIZES: [usize; 4] = [8, 4 << 10, 64 << 10, 1 << 20];
/// What this program serves instead of measuring: the name of a channel, or a size for [`echo`].
const SERVER: &str = "SHM_CORE_BENCH_SERVER";

fn main() {
    match env::var(SERVER) {
        Ok(served) => serve(&served),
        Err(_) => divan::main(),
    }
}

fn serve(served: &str) {
    match served.parse() {
        Ok(size) => echo(size, file(stdin()), file(stdout())),
        Err(_) => serve_channel(served),
    }
}

/// A standard stream without its buffer and lock.
fn file(stream: impl AsFd) -> File {
    File::from(stream.as_fd().try_clone_to_owned().expect("another descriptor"))
}

/// This program again, as a server on the other core.
fn start_server(served: &str, input: Stdio, output: Stdio) -> Child {
    let program = env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.env(SERVER, served).stdin(input).stdout(output);
    pin(Core::Partner);
    let server = command.spawn().expect("this program can be run again");
    pin(Core::Measured);
    server
}

/// Answers with what came, until nothing comes any more.
fn echo(size: usize, mut input: impl Read, mut output: impl Write) {
    let mut buffer = vec![0; size];
    while input.read_exact(&mut buffer).is_ok() {
        if output.write_all(&buffer).is_err() {
            return;
        }
    }
}

fn serve_channel(name: &str) {
    let mut copy = Vec::new();
    let server = Channel::open(name).and_then(Channel::server);
    let mut server = server.expect("the channel is there");
    loop {
        match server.receive() {
            Ok(request) => {
                copy.clear();
                copy.extend_from_slice(&request);
                request.reply(&copy).expect("the client waits for it");
            }
            Err(ChannelError::PeerGone { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn measure(bencher: Bencher<'_, '_>, size: usize, mut request: impl FnMut(&[u8]) -> usize) {
    let data = vec![1; size];
    let mut request = || assert_eq!(request(black_box(&data)), size);
    warm_up(&mut request);
    bencher.counter(BytesCount::new(2 * size)).bench_local(request);
}

#[divan::bench(args = SIZES)]
fn shm_channel(bencher: Bencher<'_, '_>, size: usize) {
    let name = format!("/b{}.channel", std::process::id());
    let channel = Channel::create(&name, &Options::default()).expect("the name is free");
    let mut server = start_server(&name, Stdio::null(), Stdio::inherit());
    let mut client: Client = channel.client().expect("the channel is new");
    let mut reply = Vec::new();
    measure(bencher, size, |data| {
        client.request_into(data, &mut reply).expect("the server answers");
        reply.len()
    });
    drop(client);
    assert!(server.wait().expect("it is our child").success());
}

/// Sends the request and reads the reply from streams that keep no sizes.
fn ask(data: &[u8], reply: &mut [u8], mut to: impl Write, mut from: impl Read) -> usize {
    to.write_all(data).expect("the server reads");
    from.read_exact(reply).expect("the server answers");
    reply.len()
}

#[divan::bench(args = SIZES)]
fn pipes(bencher: Bencher<'_, '_>, size: usize) {
    let mut server = start_server(&size.to_string(), Stdio::piped(), Stdio::piped());
    let mut to = server.stdin.take().expect("it is a pipe");
    let mut from = server.stdout.take().expect("it is a pipe");
    let mut reply = vec![0; size];
    // More than a pipe holds has to be read while it is written: the server reads all of it first, and does.
    measure(bencher, size, |data| ask(data, &mut reply, &mut to, &mut from));
    drop(to);
    assert!(server.wait().expect("it is our child").success());
}

#[divan::bench(args = SIZES)]
fn unix_socket(bencher: Bencher<'_, '_>, size: usize) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let theirs = OwnedFd::from(theirs);
    let input = theirs.try_clone().expect("another descriptor");
    let mut server = start_server(&size.to_string(), input.into(), theirs.into());
    let mut reply = vec![0; size];
    measure(bencher, size, |data| ask(data, &mut reply, &ours, &ours));
    drop(ours);
    assert!(server.wait().expect("it is our child").success());
}

#[divan::bench(args = SIZES)]
fn crossbeam_in_threads(bencher: Bencher<'_, '_>, size: usize) {
    let (to, requests) = crossbeam_channel::bounded::<Vec<u8>>(1);
    let (replies, from) = crossbeam_channel::bounded::<Vec<u8>>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(Core::Partner);
            while requests.recv().is_ok_and(|request| replies.send(request.clone()).is_ok()) {}
        });
        pin(Core::Measured);
        let mut reply = vec![0; size];
        measure(bencher, size, move |data| {
            to.send(data.to_vec()).expect("the server receives");
            reply.copy_from_slice(&from.recv().expect("the server answers"));
            reply.len()
        });
    });
}
