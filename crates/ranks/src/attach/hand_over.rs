//! What the environment says: parsed and checked, before anything is opened.

use crate::attach::AttachError;
use crate::launch::environment::{
    CONTROL_FD, FOREIGN_SIZES, JOB, PROTOCOL, PROTOCOL_VERSION, RANK, SEGMENT_FD, SINGLETON, SIZE, job_text,
};
use crate::layout::MAX_RANKS;

/// The launcher's variables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HandOver {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) job: u64,
    pub(super) segment: i32,
    pub(super) control: i32,
}

/// Looks up a variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl HandOver {
    /// Reads the hand-over; `None` if this process was not started by a launcher of ours.
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Option<Self>, AttachError> {
        const NEEDED: [&str; 6] = [PROTOCOL, RANK, SIZE, JOB, SEGMENT_FD, CONTROL_FD];
        let Some(found) = NEEDED.into_iter().find(|name| lookup(name).is_some()) else {
            return Ok(None);
        };
        let value = |name| lookup(name).ok_or(AttachError::Missing { name, found });
        check_protocol(&value(PROTOCOL)?)?;
        let size = ranged(SIZE, &value(SIZE)?, 1..=MAX_RANKS)?;
        let rank = ranged(RANK, &value(RANK)?, 0..=size - 1)?;
        let job = job_id(&value(JOB)?)?;
        let descriptor =
            |name| ranged(name, &value(name)?, 0..=i32::MAX as usize).map(|number| number as i32);
        let (segment, control) = (descriptor(SEGMENT_FD)?, descriptor(CONTROL_FD)?);
        Ok(Some(Self { rank, size, job, segment, control }))
    }
}

fn check_protocol(value: &str) -> Result<(), AttachError> {
    match value.parse() {
        Ok(PROTOCOL_VERSION) => Ok(()),
        Ok(found) => Err(AttachError::Protocol { found, known: PROTOCOL_VERSION }),
        Err(error) => Err(AttachError::variable(PROTOCOL, value, error)),
    }
}

fn ranged(
    name: &'static str,
    value: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, AttachError> {
    let number = value.parse().map_err(|error| AttachError::variable(name, value, error))?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(AttachError::variable(name, value, format!("it goes from {} to {}", range.start(), range.end())))
}

fn job_id(value: &str) -> Result<u64, AttachError> {
    let id = u64::from_str_radix(value, 16).map_err(|error| AttachError::variable(JOB, value, error))?;
    if job_text(id) == value { Ok(id) } else { Err(AttachError::variable(JOB, value, "it has 16 digits")) }
}

/// Refuses to run alone where another launcher has started several processes.
pub(super) fn refuse_foreign(lookup: Lookup<'_>) -> Result<(), AttachError> {
    if lookup(SINGLETON).is_some_and(|value| value == "1") {
        return Ok(());
    }
    let several = |value: &String| value.parse::<u64>().is_ok_and(|size| size > 1);
    let foreign = FOREIGN_SIZES.into_iter().find_map(|name| Some((name, lookup(name).filter(several)?)));
    foreign.map_or(Ok(()), |(name, value)| Err(AttachError::Foreign { name, value }))
}

/// Reads an environment, for fuzzers.
#[cfg(fuzzing)]
pub(crate) fn read_environment(lookup: Lookup<'_>) {
    drop(HandOver::read(lookup));
    drop(refuse_foreign(lookup));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: [(&str, &str); 6] = [
        (PROTOCOL, "1"),
        (RANK, "2"),
        (SIZE, "4"),
        (JOB, "00000000000000ff"),
        (SEGMENT_FD, "64"),
        (CONTROL_FD, "65"),
    ];

    fn read(change: &[(&str, Option<&str>)]) -> Result<Option<HandOver>, AttachError> {
        HandOver::read(&|name| {
            let changed = change.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
            let original = GOOD.iter().find(|(good, _)| *good == name).map(|(_, value)| *value);
            changed.unwrap_or(original).map(str::to_owned)
        })
    }

    #[test]
    fn a_complete_hand_over_is_read() {
        let expected = HandOver { rank: 2, size: 4, job: 255, segment: 64, control: 65 };
        assert_eq!(read(&[]).unwrap(), Some(expected));
        assert_eq!(HandOver::read(&|_| None).unwrap(), None);
    }

    #[test]
    fn each_damaged_variable_is_named_with_its_value() {
        let damaged = [
            (RANK, "4"),
            (RANK, "-1"),
            (RANK, ""),
            (SIZE, "0"),
            (SIZE, "1000000"),
            (JOB, "xyz"),
            (JOB, "ff"),
            (SEGMENT_FD, "four"),
            (CONTROL_FD, "99999999999"),
            (PROTOCOL, "one"),
        ];
        for (name, value) in damaged {
            let message = read(&[(name, Some(value))]).unwrap_err().to_string();
            assert!(
                message.contains(name) && message.contains(value) && message.contains("help:"),
                "{message}"
            );
        }
        assert!(matches!(read(&[(PROTOCOL, Some("2"))]), Err(AttachError::Protocol { found: 2, known: 1 })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Nothing that stands in the environment is more than an error, and what is no error keeps to its bounds.
        #[test]
        fn any_environment_is_a_hand_over_or_an_error(
            changes in prop::collection::vec((0..6usize, prop::option::of(hostile())), 0..6),
            foreign in hostile(),
        ) {
            let names = GOOD.map(|(name, _)| name);
            let lookup = |name: &str| {
                let change = changes.iter().find(|(at, _)| names[*at] == name).map(|(_, value)| value.clone());
                let good = GOOD.iter().find(|(good, _)| *good == name).map(|(_, value)| value.to_string());
                change.unwrap_or(good.or_else(|| Some(foreign.clone())))
            };
            match HandOver::read(&lookup) {
                Ok(Some(found)) => {
                    prop_assert!(found.rank < found.size && found.size <= MAX_RANKS);
                    prop_assert!(found.segment >= 0 && found.control >= 0);
                }
                Ok(None) => prop_assert!(names.iter().all(|name| lookup(name).is_none())),
                Err(error) => prop_assert!(error.to_string().contains("help:"), "{error}"),
            }
            if let Err(error) = refuse_foreign(&lookup) {
                prop_assert!(error.to_string().contains("help:"), "{error}");
            }
        }
    }

    /// Values that are nearly right, and any others.
    fn hostile() -> impl Strategy<Value = String> {
        let numbers =
            ["0", "1", "-0", "+4", "512", "513", "2147483648", "18446744073709551616", "1e3", " 1", "0x10"];
        let others = [
            "",
            "00000000000000ff",
            "00000000000000FF",
            "ffffffffffffffffff",
            "+0000000000000ff",
            "\u{202e}1",
        ];
        prop_oneof![
            3 => prop::sample::select([&numbers[..], &others[..]].concat()).prop_map(str::to_owned),
            1 => any::<String>(),
            1 => any::<u64>().prop_map(|number| number.to_string()),
        ]
    }

    #[test]
    fn each_missing_variable_is_named() {
        for (missing, _) in GOOD {
            let error = read(&[(missing, None)]).unwrap_err();
            assert!(matches!(error, AttachError::Missing { name, .. } if name == missing), "{error}");
        }
    }

    #[test]
    fn another_launchers_several_processes_are_refused() {
        let foreign = |size: &'static str, singleton: &'static str| {
            refuse_foreign(&|name: &str| match name {
                "PMI_SIZE" => Some(size.to_owned()),
                SINGLETON => Some(singleton.to_owned()),
                _ => None,
            })
        };
        let message = foreign("4", "0").unwrap_err().to_string();
        assert!(message.contains("PMI_SIZE=4") && message.contains("SHMRUN_SINGLETON=1"), "{message}");
        assert!(foreign("1", "0").is_ok());
        assert!(foreign("4", "1").is_ok());
    }
}
