//! What the benchmark programs print with `--format json`: the same of ours and of the C program.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    /// `ranks` with its version, or the MPI library's description of itself.
    pub(crate) program: String,
    pub(crate) tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Test {
    pub(crate) test: String,
    pub(crate) ranks: usize,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// Fields that nothing here reads (minimum, maximum and number of batches) are left to who runs the program alone.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) size: usize,
    /// Over the batches of one run. Absent in a run that only verifies.
    pub(crate) median: Option<f64>,
}

/// Reads the one document in `text`. Some launchers print lines of their own around it.
pub(crate) fn parse(text: &str) -> Result<Document> {
    let begin = text.find("{\"program\"").context("no JSON document in the output")?;
    let mut documents = serde_json::Deserializer::from_str(&text[begin..]).into_iter();
    documents.next().context("no JSON document in the output")?.context("the JSON document is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: &str = r#"{"program":"ranks 0.1.0","tests":[{"test":"latency","ranks":2,"unit":"us","better":"lower",
        "rows":[{"size":8,"median":0.1,"min":0.09,"max":0.2,"batches":8}]}]}"#;

    #[test]
    fn a_document_is_read() {
        let document = parse(LATENCY).unwrap();
        assert_eq!(document.program, "ranks 0.1.0");
        let test = &document.tests[0];
        assert_eq!((test.test.as_str(), test.unit.as_str(), test.better), ("latency", "us", Better::Lower));
        assert_eq!((test.rows[0].size, test.rows[0].median), (8, Some(0.1)));
    }

    #[test]
    fn lines_of_a_launcher_around_it_do_no_harm() {
        let text = format!("[host] a {{warning}}\n{LATENCY}\nbye\n");
        assert_eq!(parse(&text).unwrap().tests.len(), 1);
    }

    #[test]
    fn a_higher_rate_is_better() {
        let text = LATENCY.replace("lower", "higher").replace("\"batches\":8", "\"batches\":8,\"rate\":1000");
        assert_eq!(parse(&text).unwrap().tests[0].better, Better::Higher);
    }

    #[test]
    fn a_verified_row_has_no_median() {
        let text = LATENCY.replace(r#""median":0.1,"min":0.09,"max":0.2,"batches":8"#, r#""intact":3"#);
        assert_eq!(parse(&text).unwrap().tests[0].rows[0].median, None);
    }

    #[test]
    fn half_a_document_is_an_error() {
        assert!(parse(&LATENCY[..LATENCY.len() - 3]).is_err());
        assert!(parse("Segmentation fault").is_err());
    }
}
