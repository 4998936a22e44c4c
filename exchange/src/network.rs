//! A network that grows layer by layer, each with its parameters.

use std::collections::HashMap;

use ocelli_engine::graph::{Graph, Op};
use ocelli_engine::{EngineError, Model, ParamKind, Shape};

use crate::error::ExchangeError;

/// A graph with shapes known at every step, and the parameters of its layers.
pub(crate) struct Network {
    graph: Graph,
    shapes: Vec<Shape>,
    params: HashMap<(usize, &'static str), Vec<f32>>,
    names: HashMap<String, usize>,
}

impl Network {
    /// A network on inputs of one shape.
    pub(crate) fn new(input: Shape) -> Self {
        let (params, names) = (HashMap::new(), HashMap::new());
        Network { graph: Graph::new(input), shapes: vec![input], params, names }
    }

    /// Appends a layer and returns the value that it makes. Parameters are in the engine's order:
    /// `[kh][kw][cin / groups][cout]` of a convolution, `[in][out]` of a dense layer, `[c]` of all others. A name that is
    /// taken gets a number; one that is too long is cut.
    ///
    /// # Errors
    /// Those of the operation on these inputs; [`ExchangeError::Engine`] for parameters of another length than it has.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[u32],
        params: Vec<(ParamKind, Vec<f32>)>,
    ) -> Result<u32, ExchangeError> {
        let name = self.free_name(name);
        let x: Vec<Shape> = inputs.iter().map(|&value| self.shapes[value as usize]).collect();
        let y = op.output(&name, &x)?.check(&name)?;
        let node = self.graph.nodes.len();
        let expected = op.params(x[0]);
        let fits = expected.len() == params.len()
            && expected.iter().all(|(kind, shape)| {
                let count = shape.iter().product::<usize>();
                params.iter().any(|(given, values)| given == kind && values.len() == count)
            });
        if !fits {
            let text = |(kind, count): (ParamKind, usize)| format!("{} of {count}", kind.suffix());
            let expected: Vec<String> =
                expected.iter().map(|(kind, shape)| text((*kind, shape.iter().product()))).collect();
            let given: Vec<String> =
                params.iter().map(|(kind, values)| text((*kind, values.len()))).collect();
            let reason = format!("has [{}] in the file, not [{}]", given.join(", "), expected.join(", "));
            return Err(ocelli_engine::EngineError::Graph { node: name, reason }.into());
        }
        for (kind, values) in params {
            self.params.insert((node, kind.suffix()), values);
        }
        self.shapes.push(y);
        Ok(self.graph.push(name, op, inputs))
    }

    /// The model.
    ///
    /// # Errors
    /// [`ExchangeError::Engine`] for what is no network: a layer that nobody reads, logits that are not flat, a weight that is
    /// no finite number, and so on.
    pub(crate) fn finish(self) -> Result<Model, ExchangeError> {
        let Network { graph, mut params, .. } = self;
        let mut model = Model::zeros(graph)?;
        for entry in model.layout().entries().to_vec() {
            let values = params.remove(&(entry.node(), entry.kind.suffix()));
            let values = values.expect("push checked that all are there");
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let layer = &model.graph().nodes[entry.node()].name;
                let reason = format!(
                    "a weight of layer `{layer}` is {value}: the file is damaged, or training failed"
                );
                return Err(EngineError::Config(reason).into());
            }
            model.params_mut()[entry.range()].copy_from_slice(&values);
        }
        Ok(model)
    }

    fn free_name(&mut self, name: &str) -> String {
        const MAX_BYTES: usize = 120;
        let mut end = name.len().min(MAX_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let base = if end == 0 { "layer" } else { &name[..end] };
        let seen = self.names.entry(base.to_owned()).or_insert(0);
        *seen += 1;
        if *seen == 1 {
            return base.to_owned();
        }
        let next = format!("{base}_{seen}");
        self.free_name(&next)
    }
}
