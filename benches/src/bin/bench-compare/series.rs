//! How entries lie in `results.json`: those of one contender in one test together, which makes the file a third as long.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::output::Better;
use crate::results::{Entry, Key};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    contender: String,
    test: String,
    ranks: usize,
    unit: String,
    better: Better,
    sizes: Vec<usize>,
    /// By size, and then by round.
    rounds: Vec<Vec<Option<f64>>>,
}

/// In the order of each series' first entry.
pub(crate) fn of_entries(entries: &[Entry]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for entry in entries {
        let Key { test, ranks, size } = &entry.key;
        let found = all.iter().position(|series| {
            series.contender == entry.contender && series.test == *test && series.ranks == *ranks
        });
        let index = found.unwrap_or_else(|| {
            all.push(Series {
                contender: entry.contender.clone(),
                test: test.clone(),
                ranks: *ranks,
                unit: entry.unit.clone(),
                better: entry.better,
                sizes: Vec::new(),
                rounds: Vec::new(),
            });
            all.len() - 1
        });
        all[index].sizes.push(*size);
        all[index].rounds.push(entry.rounds.clone());
    }
    all
}

fn entries_of(series: Series) -> Vec<Entry> {
    let Series { contender, test, ranks, unit, better, sizes, rounds } = series;
    let entry = |(size, rounds)| Entry {
        contender: contender.clone(),
        key: Key { test: test.clone(), ranks, size },
        unit: unit.clone(),
        better,
        rounds,
    };
    sizes.into_iter().zip(rounds).map(entry).collect()
}

pub(crate) fn serialize<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    of_entries(entries).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    Ok(Vec::<Series>::deserialize(deserializer)?.into_iter().flat_map(entries_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn entries_of_one_contender_and_test_are_one_series() {
        let mut results = sample();
        let larger = Key { test: "latency".to_owned(), ranks: 2, size: 64 };
        results.add("openmpi5-ucx", &larger, "us", Better::Lower, 1, 0.5);
        let all = of_entries(&results.entries);
        assert_eq!(all.len(), 6);
        let ucx = all.iter().find(|series| series.contender == "openmpi5-ucx" && series.test == "latency");
        let ucx = ucx.unwrap();
        assert_eq!(ucx.sizes, [8, 64]);
        assert_eq!(ucx.rounds, [vec![Some(0.2), Some(0.4)], vec![None, Some(0.5)]]);
    }
}
