//! Programs with a mistake, by name: for the launcher's tests of what it says about them.
//!
//! `stuck head-to-head` sends a long message to each other before receiving. Each runs with as many ranks as it needs
//! or more.

use std::hint::black_box;
use std::io::stdin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ranks::{ANY_SOURCE, Source, Sum, World, wait_any};
use rustix::process::{Signal, getpid, kill_process};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mistake = arguments.next().context("which mistake?")?;
    let seconds = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let world = ranks::init()?;
    match mistake.as_str() {
        "head-to-head" => exchange(&world, 1 << 20)?,
        "short-head-to-head" => exchange(&world, 8)?,
        "circle" => receive_in_a_circle(&world)?,
        "anybody" => drop(world.recv_vec::<u8>(ANY_SOURCE)?),
        "any-of" => one_of_two(&world)?,
        "tag" => other_tag(&world)?,
        "self" => drop(world.isend(vec![0u8; 1 << 20], world.rank())?.wait()?),
        "missing" => missing_in_barrier(&world)?,
        "root" => world.broadcast(&mut [0u64; 4], if world.rank() == 1 { 2 } else { 0 })?,
        "count" => {
            let length = if world.rank() == 1 { 2005 } else { 1003 };
            world.all_reduce(&vec![1u64; length], &mut vec![0; length], Sum)?;
        }
        "truncated" => long_message(&world)?,
        "type" => other_type(&world)?,
        "unfinished" => unfinished(&world)?,
        "pair-and-others" => match world.rank() {
            0 | 1 => exchange(&world, 1 << 20)?,
            2 => compute(Duration::from_secs(3600)),
            rank => talk(&world, 7 - rank, Duration::from_secs(3600))?,
        },
        "computing" => late(&world, || compute(time))?,
        "sleeping" => late(&world, || sleep(time))?,
        "reading" => late(&world, || drop(stdin().read_line(&mut String::new())))?,
        "race" => race(&world)?,
        "survived-race" => return survived_race(world),
        "busy-pair" => busy_pair(&world, time)?,
        "busy" => busy(&world, time)?,
        other => bail!("unknown mistake {other}"),
    }
    Ok(world.finalize()?)
}

/// The other rank of a pair; the last rank of an odd number is alone.
fn partner(world: &World) -> Option<usize> {
    Some(world.rank() ^ 1).filter(|&other| other < world.size())
}

/// Both send before they receive.
fn exchange(world: &World, bytes: usize) -> Result<()> {
    let Some(other) = partner(world) else { return Ok(()) };
    let (data, mut buffer) = (vec![1u8; bytes], vec![0u8; bytes]);
    world.send(&data, (other, 7))?;
    world.recv(&mut buffer, (other, 7))?;
    Ok(())
}

fn receive_in_a_circle(world: &World) -> Result<()> {
    let (rank, size) = (world.rank(), world.size());
    let (before, after) = ((rank + size - 1) % size, (rank + 1) % size);
    world.recv(&mut [0u8; 8], before)?;
    Ok(world.send(&[0u8; 8], after)?)
}

/// Rank 0 waits for a message of either 1 or 2, which wait for one of 0.
fn one_of_two(world: &World) -> Result<()> {
    if world.rank() == 0 {
        let mut open = vec![world.irecv::<u8>(1)?, world.irecv::<u8>(2)?];
        wait_any(&mut open)?;
    } else {
        world.recv_vec::<u8>(0)?;
    }
    Ok(())
}

/// Rank 1 sends tag 5, rank 0 waits for tag 6.
fn other_tag(world: &World) -> Result<()> {
    match world.rank() {
        0 => drop(world.recv(&mut [0.0f64; 3], (1, 6))?),
        1 => world.send(&[1.0f64; 3], (0, 5))?,
        _ => {}
    }
    Ok(world.barrier()?)
}

/// Rank 2 waits for a message instead of coming to the barrier.
fn missing_in_barrier(world: &World) -> Result<()> {
    match world.rank() {
        2 => drop(world.recv_vec::<u8>((0, 3))?),
        _ => world.barrier()?,
    }
    Ok(())
}

fn long_message(world: &World) -> Result<()> {
    match world.rank() {
        0 => world.send(&[1u8; 100], 1)?,
        1 => drop(world.recv(&mut [0u8; 60], 0)?),
        _ => {}
    }
    Ok(())
}

fn other_type(world: &World) -> Result<()> {
    match world.rank() {
        0 => world.send(&[1.0f32; 4], 1)?,
        1 => drop(world.recv(&mut [0.0f64; 4], 0)?),
        _ => {}
    }
    Ok(())
}

/// Rank 0 leaves with a message that rank 1 does not receive, since it waits for another one.
fn unfinished(world: &World) -> Result<()> {
    match world.rank() {
        0 => drop(world.isend(vec![1u8; 1 << 20], (1, 1))?),
        1 => drop(world.recv_vec::<u8>((0, 2))?),
        _ => {}
    }
    Ok(())
}

/// Rank 0 does something else first.
fn late(world: &World, something: impl FnOnce()) -> Result<()> {
    world.barrier()?;
    if world.rank() == 0 {
        something();
    }
    world.barrier()?;
    println!("done");
    Ok(())
}

fn compute(time: Duration) {
    let begin = Instant::now();
    let mut value = 1u64;
    while begin.elapsed() < time {
        for _ in 0..100_000 {
            value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Exchanges messages with another rank without pause.
fn talk(world: &World, other: usize, time: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut buffer = [0u8];
    loop {
        let go_on = [u8::from(begin.elapsed() < time)];
        world.sendrecv(&go_on, other, &mut buffer, other)?;
        if go_on[0] & buffer[0] == 0 {
            return Ok(());
        }
    }
}

/// Two ranks talk while the others wait for them.
fn busy_pair(world: &World, time: Duration) -> Result<()> {
    if world.rank() < 2 {
        talk(world, 1 - world.rank(), time)?;
    }
    world.barrier()?;
    println!("done");
    Ok(())
}

/// All ranks exchange short and long messages, and meet, until the time is over on rank 0.
fn busy(world: &World, time: Duration) -> Result<()> {
    let (begin, rank, size) = (Instant::now(), world.rank(), world.size());
    let mut go_on = [1u8];
    for step in 1.. {
        let (next, before) =
            ((rank + step % (size - 1) + 1) % size, (rank + size - step % (size - 1) - 1) % size);
        let data = vec![step as u8; [8, 3000, 200_000][step % 3]];
        let send = world.isend(data, next)?;
        let from: Source = if step % 2 == 0 { before.into() } else { ANY_SOURCE.into() };
        world.recv_vec::<u8>(from)?;
        send.wait()?;
        go_on[0] = u8::from(begin.elapsed() < time);
        world.broadcast(&mut go_on, 0)?;
        world.barrier()?;
        if go_on == [0] {
            break;
        }
    }
    println!("done");
    Ok(())
}

/// Rank 0 expects the message of rank 1 before that of rank 2, and nothing makes it so.
fn race(world: &World) -> Result<()> {
    if world.rank() > 0 {
        return Ok(world.send(&[world.rank()], 0)?);
    }
    let mut order = Vec::new();
    for _ in 1..world.size() {
        order.push(world.recv(&mut [0usize], ANY_SOURCE)?.source);
    }
    println!("order {order:?}");
    assert!(order.is_sorted(), "rank {} was first", order[0]);
    Ok(())
}

/// The last rank dies in the middle of a race, and the others run it again without it.
fn survived_race(world: World) -> Result<()> {
    let last = world.size() - 1;
    for sent in 0..3 {
        match world.rank() {
            0 => break,
            rank if rank == last && sent == 1 => kill_process(getpid(), Signal::KILL)?,
            rank => world.send(&[rank], 0)?,
        }
    }
    if world.rank() == 0 {
        // Two messages of the last rank will never come: this ends with its death.
        let (order, end) = arrivals(&world, usize::MAX);
        println!("order {order:?} until {}", end.context("nobody died")?);
    }
    let world = world.shrink()?;
    for _ in 0..3 {
        match world.rank() {
            0 => break,
            rank => world.send(&[rank], 0)?,
        }
    }
    if world.rank() == 0 {
        let (order, end) = arrivals(&world, 3 * (world.size() - 1));
        println!("order {order:?} of {} ranks", world.size());
        end.map_or(Ok(()), Err)?;
    }
    Ok(world.finalize()?)
}

/// Who sent so many messages, in the order in which they were received until there was an error.
fn arrivals(world: &World, count: usize) -> (Vec<usize>, Option<ranks::Error>) {
    let mut order = Vec::new();
    while order.len() < count {
        match world.recv(&mut [0usize], ANY_SOURCE) {
            Ok(status) => order.push(status.source),
            Err(error) => return (order, Some(error)),
        }
    }
    (order, None)
}
