// What the fuzzers call, and the tests over their corpus: one function a kind of input. Each reads bytes from anywhere
// as a program of ours would, goes on with what it accepts, and aborts where a promise is broken: an error without a
// word or with the exit code of another thing, a text that does not read back as it was printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace autospc::fuzz {

void Ir(std::string_view bytes);           // IR text: parser, verifier, printer, the passes up to partitioning
void Safetensors(std::string_view bytes);  // also as a golden file and as a checkpoint's index
void Program(std::string_view bytes);      // a package's program: FlatBuffers' verifier, our validator
void Package(std::string_view bytes);      // a whole package; see package_files.h
void Pt2(std::string_view bytes);          // a .pt2: zip, configs, model.json, sizes bound, canonical passes
void Executor(std::string_view bytes);     // a program that the validator accepts, loaded and run for two steps
void Tokens(std::string_view bytes);        // a byte of options, then a token file, a safetensors batch, a stream
void RunFlags(std::string_view bytes);      // autosp-run's arguments, a line each
void CompileFlags(std::string_view bytes);  // autospc's

// Mutations that keep an input's container whole; each changes `data` of `size` bytes in place and returns the new
// size, at most `max_size`; 0: nothing could be done, a plain mutation is left to the caller.
size_t MutateProgram(uint8_t* data, size_t size, size_t max_size, unsigned seed);
size_t MutatePackage(uint8_t* data, size_t size, size_t max_size, unsigned seed);
size_t MutatePt2(uint8_t* data, size_t size, size_t max_size, unsigned seed);

}  // namespace autospc::fuzz
