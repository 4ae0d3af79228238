//! `shmrun ps`: the jobs on this machine.

use std::time::Duration;

use ranks::launch::{self, RunningJob};

use super::columns;

/// A line for each job, and one for each process of it if `processes`.
pub(super) fn table(processes: bool) -> String {
    let jobs = launch::running();
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let titles = ["JOB", "LAUNCHER", "RANKS", "PROCESSES", "TIME", "PROGRAM"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for job in &jobs {
        rows.push(line(job));
        if processes {
            rows.extend(job.members.iter().map(|member| {
                let rank = format!("  rank {}", member.rank);
                let nothing = String::new();
                vec![
                    rank,
                    nothing.clone(),
                    nothing.clone(),
                    member.pid.to_string(),
                    nothing,
                    member.command.clone(),
                ]
            }));
        }
    }
    columns(&rows)
}

fn line(job: &RunningJob) -> Vec<String> {
    let launcher = if job.watched { job.launcher.to_string() } else { "gone".to_owned() };
    let program = job.members.first().map(|member| member.command.clone()).unwrap_or_default();
    let (ranks, processes) = (job.ranks.to_string(), job.members.len().to_string());
    vec![job.id.clone(), launcher, ranks, processes, clock(job.age()), program]
}

/// Minutes and seconds, with hours where there are any.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(59_999)), "0:59");
        assert_eq!(clock(Duration::from_secs(3661)), "1:01:01");
    }
}
