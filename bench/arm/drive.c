/* Runs a predictor of any model: drive WEIGHTS|- RUNS INPUT... OUTPUT...

   Compiled with -DMODEL=name and linked with name.cc. WEIGHTS is the file beside the .cc ("-": the weights are in it);
   INPUT and OUTPUT are files of plain elements, one for each input and output, the outputs written after the last run. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define MODEL_(function) JOIN(MODEL, JOIN(_, function))
#include HEADER

static void check(int status, const char* doing) {
    if (!status) return;
    fprintf(stderr, "%s: %s\n", doing, MODEL_(error_text)(status));
    exit(1);
}

static void* memory(size_t bytes) {
    void* p = malloc(bytes ? bytes : 1);
    if (p) return p;
    fputs("no memory\n", stderr);
    exit(1);
}

static FILE* open_file(const char* path, const char* mode) {
    FILE* f = fopen(path, mode);
    if (f) return f;
    perror(path);
    exit(1);
}

int main(int argc, char** argv) {
    const int inputs = MODEL_(input_count)(), outputs = MODEL_(output_count)();
    MODEL_(predictor)* p = NULL;
    if (argc != 3 + inputs + outputs) return fputs("wrong number of arguments\n", stderr), 2;
    if (argv[1][0] == '-') check(MODEL_(create)(&p, NULL, 0, NULL, 0), "create");
    else check(MODEL_(create_from_file)(&p, argv[1]), "create_from_file");
    for (int i = 0; i < inputs; ++i) {
        const size_t bytes = MODEL_(input)(i)->bytes;
        void* data = memory(bytes);
        FILE* f = open_file(argv[3 + i], "rb");
        if (fread(data, 1, bytes, f) != bytes) return fprintf(stderr, "%s is too short\n", argv[3 + i]), 1;
        fclose(f);
        check(MODEL_(set_input)(p, i, data, bytes), "set_input");
        free(data);
    }
    for (int run = atoi(argv[2]); run > 0; --run) check(MODEL_(run)(p), "run");
    for (int i = 0; i < outputs; ++i) {
        const size_t bytes = MODEL_(output)(i)->bytes;
        void* data = memory(bytes);
        FILE* f = open_file(argv[3 + inputs + i], "wb");
        check(MODEL_(get_output)(p, i, data, bytes), "get_output");
        if (fwrite(data, 1, bytes, f) != bytes || fclose(f)) return perror(argv[3 + inputs + i]), 1;
        free(data);
    }
    MODEL_(destroy)(p);
    return 0;
}
