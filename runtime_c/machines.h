// Kernels for several machines in one file: their table, and how one of them is chosen. The top of
// vectors.h explains the sections.

//@ section machine_table
// The kernels for a machine: the steps of each set of shapes, and whether the processor can run
// them.
struct step_range { int32_t first, count; };
struct machine_code {
  const char* name;
  bool (*suffices)();
  const char* const* step_names;
  const step_range* steps;
  void (*run_step)(const @name@_predictor& p, int32_t index);
//@ threads
  void (*run_part)(const @name@_predictor& p, int32_t index, int begin, int end, int32_t worker);
//@ end
  void (*prepare)(const @name@_predictor& p, size_t from, size_t to, bool mapped);
//@ staged
  const place_offset* places;  // offsets in the arena, of each stage
  int32_t place_count;
//@ end
//@ cuda
  const cuda_program* cuda;  // null: the kernels are for the processor
//@ end
};

//@ section machine_choice
// The first machine in kMachines whose instructions the processor has; null where it has none's.
BASELINE const machine_code* chosen() {
  for (const machine_code* const* code = kMachines; *code != nullptr; ++code) {
    if ((*code)->suffices()) return *code;
  }
  return nullptr;
}
BASELINE bool cpu_suffices() { return chosen() != nullptr; }

int32_t first_step_count() {
  const machine_code* const code = chosen();
  return code != nullptr ? code->steps[0].count : 0;
}

void run_step(const @name@_predictor& p, int32_t index) { p.code->run_step(p, index); }
//@ threads
void run_part(const @name@_predictor& p, int32_t index, int begin, int end, int32_t worker) {
  p.code->run_part(p, index, begin, end, worker);
}
//@ end
void prepare(const @name@_predictor& p, size_t from, size_t to, bool mapped) {
  p.code->prepare(p, from, to, mapped);
}
