//! Every rank greets, and rank 0 says all greetings in the order of the ranks.
//!
//! Shows: a world, its ranks, and gathering values that are no plain data (here `String`s).
//!
//! ```text
//! cargo shmrun -n 4 --example hello
//! cargo shmrun -n 4 --example hello -- --greeting "good morning"
//! ```

use anyhow::ensure;
use clap::Parser;
use ranks_examples::parse;

/// Every rank greets, in order
#[derive(Parser)]
struct Arguments {
    /// What every rank says
    #[arg(long, default_value = "hello")]
    greeting: String,
}

fn main() -> anyhow::Result<()> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    let greet = |rank| format!("{} from rank {rank} of {}", arguments.greeting, world.size());

    // Only rank 0 gets the greetings; the others get `None`.
    if let Some(greetings) = world.gather_object(&greet(world.rank()), 0)? {
        greetings.iter().for_each(|greeting| println!("{greeting}"));

        let expected: Vec<String> = (0..world.size()).map(greet).collect();
        ensure!(greetings == expected, "expected the greetings {expected:?}, got {greetings:?}");
        eprintln!("check: {} greetings arrived, each from its own rank", greetings.len());
    }
    Ok(())
}
