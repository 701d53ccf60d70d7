//! What applying the census pipeline costs per row; printed, never judged: run with `--ignored --nocapture`.

use std::time::Instant;

use serde_json::json;

use super::{bench, census, run};
use crate::features::PipelineSpec;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn applying_the_census_pipeline() {
    let bench = bench().await;
    let rows = run(bench.engine.open(&census()).await.unwrap())
        .await
        .unwrap();
    let numbers = [
        "age",
        "fnlwgt",
        "education_num",
        "capital_gain",
        "capital_loss",
        "hours_per_week",
    ];
    let texts = [
        "workclass",
        "education",
        "marital_status",
        "occupation",
        "relationship",
        "race",
        "sex",
        "native_country",
    ];
    let features: Vec<String> = numbers
        .iter()
        .chain(&texts)
        .map(|name| (*name).to_owned())
        .collect();
    let steps = [
        json!({"transform": "impute", "columns": numbers, "strategy": "median"}),
        json!({"transform": "standardize", "columns": numbers}),
        json!({"transform": "one_hot", "columns": texts}),
    ];
    let begun = Instant::now();
    let fitted = PipelineSpec::from_json(&steps)
        .unwrap()
        .fit(&bench.engine, &census(), &features, None)
        .await
        .unwrap();
    println!("fit: {:?}", begun.elapsed());
    let applied = fitted.bind(&rows.schema()).unwrap();
    for size in [1_024, 8_192, 32_561] {
        let batches: Vec<_> = (0..rows.num_rows() / size)
            .map(|at| rows.slice(at * size, size))
            .collect();
        let mut best = f64::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            for batch in &batches {
                std::hint::black_box(applied.apply(batch).unwrap());
            }
            let each = begun.elapsed().as_nanos() as f64 / (batches.len() * size) as f64;
            best = best.min(each);
        }
        println!("apply, batches of {size}: {best:.1} ns per row");
    }
}
