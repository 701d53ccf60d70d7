use serde_json::{Value as Json, json};

use super::*;
use crate::support::random::{Purpose, RandomKey};

#[test]
fn every_function_has_a_name_of_its_own() {
    let mut names = functions::names();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_function_has_golden_values() {
    let recorded: Vec<&str> = golden_cases()
        .iter()
        .flat_map(|case| case["config"]["program"]["nodes"].as_array().unwrap())
        .map(|node| node["op"].as_str().unwrap())
        .map(|op| functions::find(op).map_or("", |(name, ..)| name))
        .collect();
    // Activations have files of their own (`tests/golden/activations`).
    let known = |name: &&str| {
        super::super::layers::activation::NAMES
            .iter()
            .any(|(other, _)| other == name)
    };
    let mut missing = functions::names();
    missing.retain(|name| !recorded.contains(name) && !known(name));
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_function_lets_one_row_see_another() {
    for node in [
        json!({"op": "mean", "inputs": [0], "axis": [0]}),
        json!({"op": "mean", "inputs": [0]}),
        json!({"op": "max", "inputs": [0], "axis": [-3]}),
        json!({"op": "cumsum", "inputs": [0], "axis": 0}),
        json!({"op": "softmax", "inputs": [0], "axis": -3}),
        json!({"op": "flip", "inputs": [0]}),
        json!({"op": "transpose", "inputs": [0]}),
        json!({"op": "transpose", "inputs": [0], "axes": [1, 0, 2]}),
        json!({"op": "swapaxes", "inputs": [0], "axis1": 0, "axis2": 1}),
        json!({"op": "reshape", "inputs": [0], "shape": [12, 1]}),
        json!({"op": "reshape", "inputs": [0], "shape": [2, 3, 4]}),
        json!({"op": "getitem", "inputs": [0], "key": [0]}),
        json!({"op": "getitem", "inputs": [0], "key": [[1, null, null]]}),
        json!({"op": "getitem", "inputs": [0], "key": [[null, null, -1]]}),
        json!({"op": "getitem", "inputs": [0], "key": [null]}),
        json!({"op": "take", "inputs": [0], "indices": [0], "axis": 0}),
        json!({"op": "split", "inputs": [0], "sections": 1, "axis": 0, "part": 0}),
        json!({"op": "concatenate", "inputs": [0, 0], "axis": 0}),
        json!({"op": "stack", "inputs": [0, 0], "axis": 0}),
        json!({"op": "expand_dims", "inputs": [0], "axis": 0}),
        json!({"op": "tile", "inputs": [0], "repeats": [2, 1, 1]}),
        json!({"op": "repeat", "inputs": [0], "repeats": 2, "axis": 0}),
        json!({"op": "pad", "inputs": [0], "pad_width": [[1, 0], [0, 0], [0, 0]]}),
        json!({"op": "matmul", "inputs": [1, 1]}),
        json!({"op": "dot", "inputs": [0, 0]}),
        json!({"op": "einsum", "inputs": [0, 0], "equation": "abc,abc->c"}),
        json!({"op": "einsum", "inputs": [0, 0], "equation": "abc,dbc->ad"}),
        json!({"op": "einsum", "inputs": [0], "equation": "abc->bca"}),
        json!({"op": "add", "inputs": [0, 1]}),
        json!({"op": "broadcast_to", "inputs": [1], "shape": [null, null, 2]}),
        json!({"op": "broadcast_to", "inputs": [1], "shape": [null, 2, 3]}),
    ] {
        let program = json!({"inputs": 2, "nodes": [node], "outputs": [2]});
        let message = check(&program, &[&[3, 4], &[2]]).expect_err(&node.to_string());
        assert!(message.contains("node 0"), "{message}");
    }
}

#[test]
fn a_refusal_names_the_node_the_shapes_and_the_remedy() {
    let refused = |node: Json, expected: &str| {
        let program = json!({"inputs": 2, "nodes": [node], "outputs": [2]});
        assert_eq!(check(&program, &[&[3, 4], &[2]]).unwrap_err(), expected);
    };
    refused(
        json!({"op": "mean", "inputs": [0], "axis": 0}),
        "layer \"mine, node 0 (mean)\": axis 0 of (None, 3, 4) cannot be used; axis 0 is the rows, and a lane sees only its \
         own part of a minibatch; use another axis",
    );
    refused(
        json!({"op": "softmax", "inputs": [0], "axis": 3}),
        "layer \"mine, node 0 (softmax)\": its input (None, 3, 4) has no axis 3; axes are -3 to 2",
    );
    refused(
        json!({"op": "softmax", "inputs": [0], "axes": 1}),
        "layer \"mine, node 0 (softmax)\" (softmax): unknown option \"axes\"; known are axis",
    );
    refused(
        json!({"op": "matmul", "inputs": [0, 1]}),
        "layer \"mine, node 0 (matmul)\": shapes (None, 3, 4) and (None, 2): axes that go together have different extents; \
         they must be equal, and rows go with rows only",
    );
    refused(
        json!({"op": "relu", "inputs": [2]}),
        "layer \"mine, node 0 (relu)\": its inputs are no earlier positions; positions here are 0 to 1",
    );
    refused(
        json!({"op": "relu", "inputs": [0, 1]}),
        "layer \"mine, node 0 (relu)\": it has 2 inputs; give 1",
    );
    refused(
        json!({"op": "constant", "values": [[1, 2], [3]]}),
        "layer \"mine, node 0 (constant)\": option \"values\" cannot be [[1,2],[3]]; give a number, or nested lists of equal \
         lengths of at most 16777216 numbers",
    );
    refused(
        json!({"op": "constant", "values": 1}),
        "layer \"mine, output 0\": its shape is (); it does not depend on the inputs; broadcast_to gives it rows",
    );
    refused(
        json!({"op": "random_normal", "shape": [4]}),
        "layer \"mine, node 0 (random_normal)\": random numbers without rows would be the same for every lane; give the shape \
         of a value with rows, such as [null, 4]",
    );
    let message = check(
        &json!({"inputs": 1, "nodes": [{"op": "evil", "inputs": [0]}], "outputs": [1]}),
        &[&[3]],
    );
    let message = message.unwrap_err();
    assert!(
        message.starts_with(
            "layer \"mine, node 0\": there is no function \"evil\"; known are negative, abs,"
        ),
        "{message}"
    );
}

#[test]
fn huge_programs_are_refused_before_anything_is_allocated() {
    let node = json!({"op": "relu", "inputs": [0]});
    let many = json!({"inputs": 1, "nodes": vec![node; 10_001], "outputs": [1]});
    assert!(check(&many, &[&[3]]).unwrap_err().contains("10001 nodes"));
    // Each of these would make more than 2^30 numbers per row.
    let huge = [
        json!({"op": "tile", "inputs": [0], "repeats": [1, 1_000_000, 1_000_000]}),
        json!({"op": "repeat", "inputs": [0], "repeats": 1 << 30, "axis": 1}),
        json!({"op": "pad", "inputs": [0], "pad_width": [[0, 0], [1 << 30, 1 << 30], [1 << 30, 1 << 30]]}),
        json!({"op": "broadcast_to", "inputs": [0], "shape": [null, 1u64 << 20, 1u64 << 20, 3, 4]}),
        json!({"op": "one_hot", "inputs": [0], "num_classes": 1 << 30}),
        json!({"op": "parameter", "name": "w", "shape": [1u64 << 40]}),
        json!({"op": "random_normal", "shape": [null, 1u64 << 40]}),
    ];
    for node in huge {
        let program = json!({"inputs": 1, "nodes": [node], "outputs": [1]});
        check(&program, &[&[3, 4]]).expect_err(&program.to_string());
    }
    // Few nodes that come to many operations, or to many numbers.
    let powers: Vec<Json> = (0..10_000)
        .map(|at| json!({"op": "power", "inputs": [at], "exponent": -63}))
        .collect();
    let many = json!({"inputs": 1, "nodes": powers, "outputs": [1]});
    let message = check(&many, &[&[3]]).unwrap_err();
    assert!(message.contains("more than 100000 operations"), "{message}");
    let classes =
        |at: usize| json!({"op": "one_hot", "inputs": [0], "num_classes": (1 << 20) - at});
    let classes: Vec<Json> = (0..20).map(classes).collect();
    let many = json!({"inputs": 1, "nodes": classes, "outputs": [1]});
    let message = check(&many, &[&[3]]).unwrap_err();
    assert!(message.contains("together hold at most 2^24"), "{message}");
    // Doubling at every node: refused once it passes the bound.
    let nodes: Vec<Json> = (0..64)
        .map(|at| json!({"op": "concatenate", "inputs": [at, at], "axis": 1}))
        .collect();
    let doubling = json!({"inputs": 1, "nodes": nodes, "outputs": [64]});
    assert!(
        check(&doubling, &[&[3]])
            .unwrap_err()
            .contains("2^30 numbers per row")
    );
}

/// Seeded: mutated programs of the golden file and random ones. None may panic.
#[test]
fn mutated_and_random_programs_never_panic() {
    let cases = golden_cases();
    let mut draw = draws(11);
    let mut taken = 0;
    for round in 0..20_000 {
        let case = &cases[draw(cases.len())];
        let mut program = if round % 2 == 0 {
            case["config"]["program"].clone()
        } else {
            random_program(&mut draw)
        };
        for _ in 0..draw(4) {
            mutate(&mut program, &mut draw);
        }
        let shapes: Vec<Vec<usize>> = case["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| {
                let shape = input["shape"].as_array().unwrap().iter().skip(1);
                shape
                    .map(|extent| extent.as_u64().unwrap() as usize)
                    .collect()
            })
            .collect();
        let signals: Vec<Signal> = (0..shapes.len() + draw(2))
            .map(|at| Signal {
                extents: shapes[at % shapes.len()].clone(),
                dtype: if draw(5) == 0 {
                    InputType::Int32
                } else {
                    InputType::Float32
                },
            })
            .collect();
        let Ok(program) = Program::read("mine", &program) else {
            continue;
        };
        let Ok(outputs) = program.check("mine", &signals) else {
            continue;
        };
        taken += 1;
        // What was taken is recorded for other counts of rows too, in the shapes that were promised.
        for rows in [1, 3] {
            let answers = recorded(&program, &signals, rows);
            for ((_, shape), output) in answers.iter().zip(&outputs) {
                assert_eq!(shape[0], rows);
                assert_eq!(shape[1..], output.extents);
            }
        }
    }
    assert!(taken > 1000, "{taken}");
}

fn golden_cases() -> Vec<Json> {
    let path = format!(
        "{}/tests/golden/operations/operations.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Records a program over leaves of these signals.
fn recorded(program: &Program, signals: &[Signal], rows: usize) -> Vec<(NodeId, Vec<usize>)> {
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for (number, signal) in signals.iter().enumerate() {
        let shape = Shape::new(&[&[rows], signal.extents.as_slice()].concat());
        let op = match signal.dtype {
            InputType::Float32 => Op::Input(number, shape),
            InputType::Int32 => Op::Indices(number, shape),
        };
        inputs.push(graph.add(op, &[]).unwrap());
    }
    let parameters: Vec<NodeId> = program
        .parameters()
        .iter()
        .enumerate()
        .map(|(number, parameter)| {
            let op = Op::Parameter(number, Shape::new(&parameter.array.shape));
            graph.add(op, &[]).unwrap()
        })
        .collect();
    let answers = program
        .record(&mut graph, rows, &inputs, &parameters, &[])
        .unwrap();
    let shape = |&node: &NodeId| (node, graph.shape(node).extents().to_vec());
    answers.outputs.iter().map(shape).collect()
}

/// Whole numbers below a bound, from a seed.
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut stream = RandomKey::of(seed, 0).stream(Purpose::Initializer);
    move |bound| (stream.uniform() * bound as f64) as usize % bound.max(1)
}

fn random_program(draw: &mut impl FnMut(usize) -> usize) -> Json {
    let names = functions::names();
    let inputs = 1 + draw(2);
    let mut nodes = Vec::new();
    for at in 0..1 + draw(8) {
        let known = inputs + at;
        let taken: Vec<usize> = (0..1 + draw(2)).map(|_| draw(known)).collect();
        let mut node = json!({"op": names[draw(names.len())], "inputs": taken});
        for (key, value) in [
            ("axis", json!(draw(5) as i64 - 3)),
            ("keepdims", json!(true)),
            ("shape", json!([null, draw(5) as i64 - 1, draw(4)])),
            (
                "key",
                json!(["...", draw(3) as i64 - 1, [null, null, draw(5) as i64 - 2]]),
            ),
            ("axes", json!([draw(3), draw(3)])),
            ("equation", json!("abc,abd->acd")),
            ("exponent", json!(draw(5) as i64 - 2)),
            ("num_classes", json!(draw(6))),
            ("repeats", json!(draw(4))),
            ("indices", json!([draw(3), draw(3)])),
            ("sections", json!(draw(3))),
            ("part", json!(draw(2))),
        ] {
            // Most functions know few arguments; more than one would always be refused.
            if draw(12) == 0 {
                node[key] = value;
            }
        }
        if draw(10) == 0 {
            node =
                json!({"op": "parameter", "name": format!("p{at}"), "shape": [draw(4), draw(4)]});
        }
        if draw(10) == 0 {
            node = json!({"op": "constant", "values": [draw(4), draw(4)]});
        }
        nodes.push(node);
    }
    let last = inputs + nodes.len() - 1;
    json!({"inputs": inputs, "nodes": nodes, "outputs": [last], "losses": if draw(8) == 0 { json!([last]) } else { json!([]) }})
}

/// Puts something else in one place of the description.
fn mutate(json: &mut Json, draw: &mut impl FnMut(usize) -> usize) {
    let inside = match json {
        Json::Array(list) if !list.is_empty() && draw(6) > 0 => {
            let at = draw(list.len());
            list.get_mut(at)
        }
        Json::Object(map) if !map.is_empty() && draw(12) > 0 => {
            let at = draw(map.len());
            map.values_mut().nth(at)
        }
        _ => None,
    };
    match inside {
        Some(inside) => mutate(inside, draw),
        None => {
            *json = match draw(12) {
                0 => Json::Null,
                1 => json!(draw(8) as i64 - 4),
                2 => json!(i64::MAX),
                3 => json!(i64::MIN),
                4 => json!(1e300),
                5 => json!("..."),
                6 => json!([]),
                7 => json!({}),
                8 => json!([null, null, draw(5) as i64 - 2]),
                9 => json!(0.5),
                10 => json!(1 << 30),
                _ => json!(true),
            };
        }
    }
}

fn check(program: &Json, shapes: &[&[usize]]) -> Result<Vec<Signal>, String> {
    let signals: Vec<Signal> = shapes.iter().map(|shape| Signal::float(shape)).collect();
    let program = Program::read("mine", program).map_err(|error| error.to_string())?;
    program
        .check("mine", &signals)
        .map_err(|error| error.to_string())
}
