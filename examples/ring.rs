//! A token goes round the ranks; each adds its rank number and passes the token on.
//!
//! Shows: messages between neighbours, blocking and not. Rank 0 starts each lap with a send that does not
//! block, so that it also works when the next rank is rank 0 itself.
//!
//! ```text
//! cargo shmrun -n 4 --example ring -- --laps 3
//! ```

use anyhow::ensure;
use bytemuck::{Pod, Zeroable};
use clap::Parser;
use ranks::World;
use ranks_examples::parse;

/// A token goes round the ranks and collects their numbers
#[derive(Parser)]
struct Arguments {
    /// How often the token goes round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    laps: u64,
}

/// What goes round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Token {
    /// How many ranks have had it.
    hops: u64,
    /// The sum of their numbers.
    sum: u64,
}

impl Token {
    fn visit(&mut self, rank: usize) {
        self.hops += 1;
        self.sum += rank as u64;
    }
}

/// Rank 0's part of a lap: it sends the token off and waits until it is back.
fn lead(world: &World, token: Token, next: usize, previous: usize) -> ranks::Result<Token> {
    let mut back = [token];
    let sent = world.isend(vec![token], next)?;
    world.recv(&mut back, previous)?;
    sent.wait()?;
    back[0].visit(0);
    Ok(back[0])
}

/// The other ranks' part of a lap.
fn follow(world: &World, next: usize, previous: usize) -> ranks::Result<()> {
    let mut token = [Token::zeroed()];
    world.recv(&mut token, previous)?;
    token[0].visit(world.rank());
    world.send(&token, next)
}

fn main() -> anyhow::Result<()> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    let (rank, size) = (world.rank(), world.size());
    let (next, previous) = ((rank + 1) % size, (rank + size - 1) % size);

    let mut token = Token::zeroed();
    for lap in 1..=arguments.laps {
        if rank == 0 {
            token = lead(&world, token, next, previous)?;
            if lap <= 3 {
                println!("lap {lap}: {} hops, sum of the ranks {}", token.hops, token.sum);
            }
        } else {
            follow(&world, next, previous)?;
        }
    }
    if rank == 0 {
        let hops = arguments.laps * size as u64;
        let expected = Token { hops, sum: hops * (size as u64 - 1) / 2 };
        ensure!(token == expected, "after {} laps expected {expected:?}, got {token:?}", arguments.laps);
        println!("total: {} hops, sum of the ranks {}", token.hops, token.sum);
        eprintln!("check: {} laps added up", arguments.laps);
    }
    Ok(())
}
