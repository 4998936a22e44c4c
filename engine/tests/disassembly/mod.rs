//! What the innermost loops of a function do, from its machine code.
//!
//! A loop is found in the graph of jumps, not in the order of addresses: an edge back to an instruction on the path
//! that led there makes a loop, whose body is all that reaches the edge without passing its head. A loop without
//! another one inside is innermost.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, EncodingKind, FastFormatter, FlowControl, Instruction, Mnemonic,
    OpKind, Register,
};

pub(crate) use crate::program::{Function, functions};

/// One innermost loop: what a round of it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Loop {
    /// Address of its first instruction.
    pub(crate) address: u64,
    /// Instructions.
    pub(crate) instructions: usize,
    /// Multiply-adds of vectors, by bytes of the vector.
    pub(crate) multiply_adds: BTreeMap<usize, usize>,
    /// Vector instructions that read memory other than the stack, broadcasts included.
    pub(crate) loads: usize,
    /// Vector and mask instructions that touch the stack: spilled vectors, broadcasts of spilled floats.
    pub(crate) spills: Vec<String>,
    /// How many of these store: the others read what stays the same from round to round.
    pub(crate) spill_stores: usize,
    /// Instructions on general registers that touch the stack: spilled pointers and counters.
    pub(crate) reloads: Vec<String>,
    /// Bytes of the widest vector.
    pub(crate) widest: usize,
    /// What a loop of vectors must not contain: calls, `vzeroupper`, x87, and SSE that is not encoded as AVX.
    pub(crate) foreign: Vec<String>,
}

impl Loop {
    fn new(body: &[Instruction], frame: bool) -> Self {
        let mut found = Loop { address: body[0].ip(), instructions: body.len(), ..Loop::default() };
        for instruction in body {
            found.add(instruction, frame);
        }
        found
    }

    fn add(&mut self, instruction: &Instruction, frame: bool) {
        let registers = || (0..instruction.op_count()).map(|i| instruction.op_register(i));
        let vector = registers().any(|r| r.is_vector_register() || r.is_k());
        let widest = registers().filter(|r| r.is_vector_register()).map(Register::size).max();
        self.widest = self.widest.max(widest.unwrap_or(0));
        let memory = (0..instruction.op_count()).find(|&i| instruction.op_kind(i) == OpKind::Memory);
        // `lea` names an address and touches nothing.
        let memory = memory.filter(|_| instruction.mnemonic() != Mnemonic::Lea);
        let base = instruction.memory_base();
        let stack = base == Register::RSP || (base == Register::RBP && frame);
        match memory {
            Some(operand) if stack && vector => {
                self.spills.push(text(instruction));
                self.spill_stores += usize::from(operand == 0);
            }
            Some(_) if stack => self.reloads.push(text(instruction)),
            Some(operand) if vector && operand > 0 => self.loads += 1,
            _ => {}
        }
        if is_multiply_add(instruction) {
            *self.multiply_adds.entry(instruction.op0_register().size()).or_default() += 1;
        }
        let call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let legacy = vector && instruction.encoding() == EncodingKind::Legacy;
        let features = instruction.cpuid_features();
        let x87 = features.iter().any(|f| matches!(f, CpuidFeature::FPU | CpuidFeature::MMX));
        if call || legacy || x87 || instruction.mnemonic() == Mnemonic::Vzeroupper {
            self.foreign.push(text(instruction));
        }
    }
}

fn is_multiply_add(instruction: &Instruction) -> bool {
    let name = format!("{:?}", instruction.mnemonic());
    let floats = ["Vfmadd", "Vfmsub", "Vfnmadd", "Vfnmsub"].iter().any(|family| name.starts_with(family));
    floats && name.ends_with("ps") || name == "Vpdpbusd" || name == "Vdpbf16ps"
}

/// An instruction as a disassembler prints it, with its address.
fn text(instruction: &Instruction) -> String {
    let mut text = format!("{:x}: ", instruction.ip());
    FastFormatter::new().format(instruction, &mut text);
    text
}

/// The innermost loops of a function, in the order of their addresses.
pub(crate) fn innermost_loops(function: &Function) -> Vec<Loop> {
    let decoder = Decoder::with_ip(64, &function.code, function.address, DecoderOptions::NONE);
    let code: Vec<Instruction> = decoder.into_iter().collect();
    let successors = successors(&code);
    let mut latches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (latch, head) in back_edges(&successors) {
        latches.entry(head).or_default().push(latch);
    }
    let mut predecessors = vec![Vec::new(); code.len()];
    for (from, to) in successors.iter().enumerate().flat_map(|(i, to)| to.iter().map(move |&to| (i, to))) {
        predecessors[to].push(from);
    }
    let bodies = latches.iter().map(|(&head, latches)| (head, body(&predecessors, head, latches)));
    let innermost =
        bodies.filter(|(head, body)| body.iter().all(|at| at == head || !latches.contains_key(at)));
    // A frame pointer makes `rbp` a second name of the stack; otherwise it is a register like any other.
    let frame = code.iter().any(|i| {
        i.op_count() == 2
            && i.op0_register() == Register::RBP
            && (i.op1_register() == Register::RSP
                || (i.mnemonic() == Mnemonic::Lea && i.memory_base() == Register::RSP))
    });
    let instructions = |body: BTreeSet<usize>| body.into_iter().map(|at| code[at]).collect::<Vec<_>>();
    innermost.map(|(_, body)| Loop::new(&instructions(body), frame)).collect()
}

/// For each instruction those that may run next, inside of the function. A jump through a table may lead to
/// every block that no other way leads to.
fn successors(code: &[Instruction]) -> Vec<Vec<usize>> {
    let index: BTreeMap<u64, usize> = code.iter().enumerate().map(|(at, i)| (i.ip(), at)).collect();
    let next = |at: usize| (at + 1 < code.len()).then_some(at + 1);
    let target = |at: usize| index.get(&code[at].near_branch_target()).copied();
    let direct = code.iter().enumerate().map(|(at, instruction)| match instruction.flow_control() {
        FlowControl::UnconditionalBranch => target(at).into_iter().collect(),
        FlowControl::ConditionalBranch => target(at).into_iter().chain(next(at)).collect(),
        FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Exception
        | FlowControl::Interrupt => Vec::new(),
        _ => next(at).into_iter().collect(),
    });
    let mut successors: Vec<Vec<usize>> = direct.collect();
    let mut reached = vec![false; code.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut reached[at], true) {
            open.extend(&successors[at]);
        }
    }
    let begins = |at: &usize| !reached[*at] && !successors[at - 1].contains(at);
    let elsewhere: Vec<usize> = (1..code.len()).filter(begins).collect();
    for (instruction, successors) in code.iter().zip(&mut successors) {
        if instruction.flow_control() == FlowControl::IndirectBranch {
            successors.clone_from(&elsewhere);
        }
    }
    successors
}

/// The edges that lead back to an instruction on the path from the entry to them.
fn back_edges(successors: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let (mut seen, mut on_path) = (vec![false; successors.len()], vec![false; successors.len()]);
    let mut edges = Vec::new();
    // The path, and for each instruction on it the number of its successors that were followed.
    let mut path = vec![(0, 0)];
    while let Some((at, followed)) = path.last_mut() {
        let at = *at;
        (seen[at], on_path[at]) = (true, true);
        match successors[at].get(*followed) {
            Some(&to) => {
                *followed += 1;
                if on_path[to] {
                    edges.push((at, to));
                } else if !seen[to] {
                    path.push((to, 0));
                }
            }
            None => {
                on_path[at] = false;
                path.pop();
            }
        }
    }
    edges
}

/// The instructions that reach one of `latches` without passing `head`, and `head`.
fn body(predecessors: &[Vec<usize>], head: usize, latches: &[usize]) -> BTreeSet<usize> {
    let mut body = BTreeSet::from([head]);
    let mut open = latches.to_vec();
    while let Some(at) = open.pop() {
        if body.insert(at) {
            open.extend(&predecessors[at]);
        }
    }
    body
}
