/* Measurements of an MPI library by the definitions of the OSU micro-benchmarks.
 *
 *     mpicc -O3 ranks_bench.c -o ranks_bench && mpirun -n 2 ./ranks_bench latency,bw
 *
 * The same program for ranks is ../src: the sections below have the names of its modules and come in the order of
 * its main.rs. Functions, constants and loops correspond line by line: change both or neither. What has to be
 * declared before it is used comes first: the types, which in Rust stand with the tests and in bench.rs.
 */
#include <limits.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- types ---- */

/* Which ranks take part. */
enum ranks {
    PAIR,  /* 0 and 1; the others wait in a barrier */
    PAIRS, /* each of the first half with one of the second half */
    ALL,
};

enum unit { MICROSECONDS, MEGABYTES_PER_SECOND };

/* How long a buffer is, in sizes. */
enum parts {
    NOTHING, /* there is none: what is sent lies where the others receive */
    ONE,
    ONE_PER_RANK,
};

enum format { TABLE, JSON };

struct bench;

struct test {
    const char *name;
    enum ranks ranks;
    enum unit unit;
    size_t steps;   /* halves of a round trip, or windows, in one call */
    bool has_rate;  /* whether messages per second are printed too */
    size_t element; /* every size is a multiple of it */
    size_t smallest;
    size_t largest;
    enum parts data;
    enum parts buffer;
    void (*call)(const struct bench *bench);                         /* what is timed */
    double (*batch)(const struct bench *bench, uint64_t iterations); /* how it is timed */
    void (*prepare)(struct bench *bench, size_t call); /* fills the buffers before a call that is verified */
    void (*confirm)(const struct bench *bench, size_t call); /* verifies what the call has transferred */
};

/* A test at a size. The buffers have exactly the length that is transferred. */
struct bench {
    const struct test *test;
    int participants;      /* the ranks below take part */
    int pairs;             /* rank i sends to rank i + pairs */
    size_t window;         /* messages under way at once */
    MPI_Request *requests; /* room for two windows */
    size_t size;           /* bytes per message */
    size_t stride; /* from one message of a window to the next in the buffers: 0, as OSU does, but where content is
                      verified, or in use */
    unsigned char *data;   /* what is sent */
    unsigned char *buffer; /* what is received */
    size_t data_length;
    size_t buffer_length;
    bool in_use;    /* what is sent is written before each call, and what is received is read after it */
    double entered; /* when this rank entered the barrier that is verified, see now() */
};

struct summary {
    double median;
    double min;
    double max;
    size_t batches;
};

static int rank;
static int ranks;

static void fail(const char *message) {
    fprintf(stderr, "ranks_bench: rank %d: %s\n", rank, message);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL)
        fail("no memory for the buffers");
    return memory;
}

/* ---- arguments ---- */

enum { MOST_TESTS = 32, MOST_SIZES = 64 };

static const struct test *find_test(const char *name);

struct arguments {
    const struct test *tests[MOST_TESTS];
    size_t number_of_tests;
    size_t sizes[MOST_SIZES];
    size_t number_of_sizes;
    enum format format;
    double milliseconds;
    size_t window;
    bool in_use; /* write all that is sent before each call, and read of all that was received after it; both are timed, too */
    bool check;
    bool init; /* only initialize and finalize */
};

static void usage(const char *problem, const char *value) {
    fprintf(stderr,
            "ranks_bench: %s: %s\n"
            "usage: ranks_bench TEST[,TEST...] [--sizes 8,4096] [--format table|json] [--milliseconds 20]\n"
            "                   [--window 64] [--in-use] [--check]\n"
            "       ranks_bench init\n"
            "tests: latency, any-latency, bw, bibw, mbw-mr, barrier, bcast, reduce, allreduce, allgather, alltoall,\n"
            "       gather, scatter\n",
            problem, value);
    exit(2);
}

static size_t number(const char *text) {
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-')
        usage("not a number", text);
    if (value > INT_MAX)
        usage("more than an MPI count can say", text);
    return (size_t)value;
}

static void parse_tests(struct arguments *arguments, char *list) {
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        const struct test *test = find_test(name);
        if (test == NULL || arguments->number_of_tests == MOST_TESTS)
            usage("there is no such test", name);
        arguments->tests[arguments->number_of_tests++] = test;
    }
}

static void parse_sizes(struct arguments *arguments, char *list) {
    for (char *size = strtok(list, ","); size != NULL; size = strtok(NULL, ",")) {
        if (arguments->number_of_sizes == MOST_SIZES)
            usage("too many sizes", size);
        arguments->sizes[arguments->number_of_sizes++] = number(size);
    }
}

static struct arguments parse(int argc, char **argv) {
    struct arguments arguments = {.format = TABLE, .milliseconds = 20, .window = 64};
    for (int index = 1; index < argc; index++) {
        char *word = argv[index], *value = index + 1 < argc ? argv[index + 1] : "";
        if (strcmp(word, "--in-use") == 0) {
            arguments.in_use = true;
            continue;
        } else if (strcmp(word, "--check") == 0) {
            arguments.check = true;
            continue;
        } else if (strcmp(word, "init") == 0) {
            arguments.init = true;
            continue;
        } else if (word[0] != '-') {
            parse_tests(&arguments, word);
            continue;
        } else if (strcmp(word, "--sizes") == 0) {
            parse_sizes(&arguments, value);
        } else if (strcmp(word, "--format") == 0 && strcmp(value, "table") == 0) {
            arguments.format = TABLE;
        } else if (strcmp(word, "--format") == 0 && strcmp(value, "json") == 0) {
            arguments.format = JSON;
        } else if (strcmp(word, "--milliseconds") == 0) {
            arguments.milliseconds = (double)number(value);
        } else if (strcmp(word, "--window") == 0) {
            arguments.window = number(value);
        } else {
            usage("wrong option or value", word);
        }
        index++;
    }
    if (arguments.number_of_tests == 0 && !arguments.init)
        usage("missing", "TEST");
    return arguments;
}

/* The sizes at which a test runs; returns how many. */
static size_t sizes_of(const struct arguments *arguments, const struct test *test, size_t *sizes) {
    if (test->largest == 0) {
        sizes[0] = 0;
        return 1;
    }
    if (arguments->number_of_sizes > 0) {
        memcpy(sizes, arguments->sizes, arguments->number_of_sizes * sizeof *sizes);
        return arguments->number_of_sizes;
    }
    size_t count = 0;
    if (test->smallest == 0)
        sizes[count++] = 0;
    for (size_t size = 1; size <= test->largest; size *= 2)
        if (size >= test->smallest)
            sizes[count++] = size;
    return count;
}

/* ---- output ---- */

/* The columns of a table, see row() and checked(). */
static const char VALUES[] = "size median min max";
static const char VALUES_AND_RATE[] = "size median min max messages/s";
static const char CHECKED[] = "size content";

struct output {
    enum format format;
    size_t tests;
    size_t rows;
};

/* The first line of the library's description, without what JSON would have to escape. */
static void print_version(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    for (const char *at = version; *at != '\0' && *at != '\n'; at++)
        putchar(*at < ' ' || *at == '"' || *at == '\\' ? ' ' : *at);
}

static struct output begin(enum format format) {
    if (rank == 0 && format == JSON) {
        printf("{\"program\":\"");
        print_version();
        printf("\",\"tests\":[");
    }
    return (struct output){.format = format};
}

static void begin_test(struct output *output, const char *name, const char *suffix, enum unit of, const char *columns) {
    const char *unit = of == MICROSECONDS ? "us" : "MB/s";
    const char *better = of == MICROSECONDS ? "lower" : "higher";
    if (rank == 0 && output->format == TABLE) {
        printf("# %s%s, %d ranks, %s (%s is better)\n", name, suffix, ranks, unit, better);
        printf("# %s\n", columns);
    } else if (rank == 0) {
        printf("%s\n", output->tests > 0 ? "," : "");
        printf("{\"test\":\"%s%s\",\"ranks\":%d,\"unit\":\"%s\",\"better\":\"%s\",\"rows\":[", name, suffix, ranks, unit,
               better);
    }
    output->tests++;
    output->rows = 0;
}

/* The row of one size; rate is in messages per second, 0 if the test has none. */
static void row(struct output *output, size_t size, const struct summary *summary, double rate) {
    if (rank == 0 && output->format == TABLE) {
        printf("%-9zu %12.4f %12.4f %12.4f", size, summary->median, summary->min, summary->max);
        if (rate > 0)
            printf(" %14.0f", rate);
        printf("\n");
    } else if (rank == 0) {
        printf("%s\n {\"size\":%zu,\"median\":%.4f,\"min\":%.4f,\"max\":%.4f", output->rows > 0 ? "," : "", size,
               summary->median, summary->min, summary->max);
        printf(",\"batches\":%zu", summary->batches);
        if (rate > 0)
            printf(",\"rate\":%.0f", rate);
        printf("}");
    }
    output->rows++;
}

/* The row of a size whose content was verified. */
static void checked(struct output *output, size_t size, size_t calls) {
    if (rank == 0 && output->format == TABLE)
        printf("%-9zu intact\n", size);
    else if (rank == 0)
        printf("%s\n {\"size\":%zu,\"intact\":%zu}", output->rows > 0 ? "," : "", size, calls);
    output->rows++;
}

static void end_test(const struct output *output) {
    if (rank == 0 && output->format == JSON)
        printf("]}");
}

static void end(const struct output *output) {
    if (rank == 0 && output->format == JSON)
        printf("\n]}\n");
}

/* ---- timing ---- */

static void write_data(const struct bench *bench, uint64_t iteration);
static void read_buffer(const struct bench *bench);
static double mean(const struct bench *bench, double seconds);
static double value(const struct bench *bench, double seconds);

enum {
    CONTROL = 2, /* tag of the messages in which rank 0 says how many iterations the next batch has */
    STOP = 0,    /* instead of a number of iterations: there are no more batches */
    BATCHES_PER_BUDGET = 8, /* each batch is to take this part of the time */
    FEWEST_BATCHES = 3,
};

/* Seconds on a clock that all ranks share. MPI_Wtime costs more or less of it than this, by library. */
static double now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* One call, with what a program does before and after it if that is timed too. */
static void call(const struct bench *bench, uint64_t iteration) {
    if (bench->in_use)
        write_data(bench, iteration);
    bench->test->call(bench);
    if (bench->in_use)
        read_buffer(bench);
}

/* The clock around all calls: they follow each other without a pause. */
static double all_calls(const struct bench *bench, uint64_t iterations) {
    double start = now();
    for (uint64_t iteration = 0; iteration < iterations; iteration++)
        call(bench, iteration);
    return (now() - start) / (double)iterations;
}

/* The clock around each call, and a barrier between them that is not timed. */
static double each_call(const struct bench *bench, uint64_t iterations) {
    double seconds = 0;
    for (uint64_t iteration = 0; iteration < iterations; iteration++) {
        double start = now();
        call(bench, iteration);
        seconds += now() - start;
        MPI_Barrier(MPI_COMM_WORLD);
    }
    return seconds / (double)iterations;
}

static double *values; /* of the batches of one size, in the unit of the test */
static size_t number_of_values;

static void tell(const struct bench *bench, uint64_t iterations) {
    for (int other = 1; other < bench->participants; other++)
        MPI_Send(&iterations, 1, MPI_UINT64_T, other, CONTROL, MPI_COMM_WORLD);
}

static uint64_t hear(void) {
    uint64_t iterations = STOP;
    MPI_Recv(&iterations, 1, MPI_UINT64_T, 0, CONTROL, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return iterations;
}

/* One batch on rank 0: the value of it. */
static double lead(const struct bench *bench, uint64_t iterations) {
    tell(bench, iterations);
    double seconds = bench->test->batch(bench, iterations);
    seconds = mean(bench, seconds);
    return value(bench, seconds);
}

/* The batches of the other ranks. */
static void follow(const struct bench *bench) {
    for (;;) {
        uint64_t iterations = hear();
        if (iterations == STOP)
            return;
        double seconds = bench->test->batch(bench, iterations);
        mean(bench, seconds);
    }
}

/* The seconds of a batch of so many iterations. */
static double seconds_of(const struct bench *bench, uint64_t iterations) {
    double start = now();
    lead(bench, iterations);
    return now() - start;
}

/* Doubles the number of iterations until a batch takes the wanted seconds twice: one may have waited for a rank that came late, or
   have been interrupted. Few iterations would be timed with what rank 0 tells before them. */
static uint64_t warm_up(const struct bench *bench, double wanted) {
    uint64_t iterations = 1;
    while (seconds_of(bench, iterations) < wanted || seconds_of(bench, iterations) < wanted)
        iterations *= 2;
    return iterations;
}

static void keep(double found) {
    values = realloc(values, (number_of_values + 1) * sizeof *values);
    if (values == NULL)
        fail("no memory for the values");
    values[number_of_values++] = found;
}

/* The values of as many batches as the budget in seconds allows, after warming up. */
static void batches(const struct bench *bench, double budget) {
    uint64_t iterations = warm_up(bench, budget / BATCHES_PER_BUDGET);
    number_of_values = 0;
    double start = now();
    while (number_of_values < FEWEST_BATCHES || now() - start < budget)
        keep(lead(bench, iterations));
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static struct summary summarize(void) {
    qsort(values, number_of_values, sizeof *values, ascending);
    size_t count = number_of_values;
    if (count == 0)
        return (struct summary){0};
    double median = (values[(count - 1) / 2] + values[count / 2]) / 2;
    return (struct summary){median, values[0], values[count - 1], count};
}

/* Measures a bench on all its participants for a budget in seconds; rank 0 gets the summary. */
static struct summary measure(const struct bench *bench, double budget) {
    if (rank == 0) {
        batches(bench, budget);
        tell(bench, STOP);
    } else {
        follow(bench);
    }
    return summarize();
}

/* ---- bench ---- */

enum {
    ROOT = 0, /* of the collectives that have one */
    PAGE = 4096,
    LINE = 64,
};

/* Whether this rank is the first of its pair. */
static bool is_sender(const struct bench *bench) {
    return rank < bench->pairs;
}

/* The other rank of this rank's pair. */
static int peer_of(const struct bench *bench) {
    return is_sender(bench) ? rank + bench->pairs : rank - bench->pairs;
}

/* Writes all that is sent in the next call. */
static void write_data(const struct bench *bench, uint64_t iteration) {
    memset(bench->data, (int)(iteration & 0xff), bench->data_length);
    if (bench->test->data == NOTHING && rank == ROOT)
        memset(bench->buffer, (int)(iteration & 0xff), bench->buffer_length);
}

static volatile uint64_t sum_of_bytes; /* so that they are read */

/* Reads a byte in each cache line of what was received in the last call: adding up whole lines would measure the compiler. */
static void read_buffer(const struct bench *bench) {
    uint64_t sum = 0;
    for (size_t index = 0; index < bench->buffer_length; index += LINE)
        sum += bench->buffer[index];
    sum_of_bytes = sum;
}

/* The mean of the seconds of those ranks whose time counts, on rank 0. */
static double mean(const struct bench *bench, double seconds) {
    if (bench->test->ranks == PAIR)
        return seconds;
    int timed = bench->test->ranks == PAIRS ? bench->pairs : bench->participants;
    double counted = rank < timed ? seconds : 0, sum = 0;
    MPI_Reduce(&counted, &sum, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    return sum / timed;
}

/* Messages of all pairs in one call. */
static size_t messages(const struct bench *bench) {
    return bench->test->steps * bench->window * (size_t)bench->pairs;
}

/* What is reported of a call that took so many seconds. */
static double value(const struct bench *bench, double seconds) {
    if (bench->test->unit == MICROSECONDS)
        return seconds * 1e6 / (double)bench->test->steps;
    return (double)messages(bench) * (double)bench->size / seconds / 1e6;
}

/* Messages per second, where value is in MB/s. */
static double rate(const struct bench *bench, double value) {
    return bench->test->has_rate ? value * 1e6 / (double)bench->size : 0;
}

/* How many ranks take part in a test. */
static int participants(const struct test *test) {
    if (test->ranks == PAIR) {
        if (ranks < 2)
            fail("this test needs at least 2 ranks: mpirun -n 2 ./ranks_bench");
        return 2;
    }
    if (test->ranks == PAIRS && ranks % 2 != 0)
        fail("this test needs an even number of ranks");
    return ranks;
}

/* Page-aligned memory that has been touched, and where it is to be freed. */
static unsigned char *new_buffer(size_t length, void **memory) {
    *memory = allocate(length + PAGE);
    memset(*memory, 1, length + PAGE);
    uintptr_t start = ((uintptr_t)*memory + PAGE - 1) / PAGE * PAGE;
    return (unsigned char *)start;
}

/* ---- pattern: what is sent where content is verified, different for every sender, index and call ---- */

/* Byte of what a sender sends in a call. */
static unsigned char byte(size_t sender, size_t index, size_t call) {
    return (unsigned char)(index * 31 + index / 251 + sender * 17 + call * 7);
}

static void fill(unsigned char *data, size_t length, size_t sender, size_t call) {
    for (size_t index = 0; index < length; index++)
        data[index] = byte(sender, index, call);
}

static void verify(const unsigned char *buffer, size_t length, size_t sender, size_t call) {
    for (size_t index = 0; index < length; index++) {
        unsigned char expected = byte(sender, index, call);
        if (buffer[index] != expected) {
            fprintf(stderr, "ranks_bench: byte %zu from rank %zu in call %zu is %d, not %d\n", index, sender, call,
                    buffer[index], expected);
            fail("content arrived changed");
        }
    }
}

/* Element of what a sender adds to a sum: small and whole, so that sums are exact. */
static float one_float(size_t sender, size_t index, size_t call) {
    return byte(sender, index, call);
}

static void fill_floats(float *data, size_t length, size_t sender, size_t call) {
    for (size_t index = 0; index < length; index++)
        data[index] = one_float(sender, index, call);
}

/* Whether these are the sums over all ranks. */
static void verify_sums(const float *buffer, size_t length, size_t call) {
    for (size_t index = 0; index < length; index++) {
        float expected = 0;
        for (size_t sender = 0; sender < (size_t)ranks; sender++)
            expected += one_float(sender, index, call);
        if (buffer[index] != expected) {
            fprintf(stderr, "ranks_bench: sum %zu of %d ranks in call %zu is %g, not %g\n", index, ranks, call,
                    buffer[index], expected);
            fail("a sum is wrong");
        }
    }
}

/* ---- latency: half round trip of blocking sends and receives ---- */

enum { DATA = 1 };

static void round_trip_from(const struct bench *bench, int source) {
    int to = peer_of(bench);
    if (is_sender(bench)) {
        MPI_Send(bench->data, (int)bench->size, MPI_BYTE, to, DATA, MPI_COMM_WORLD);
        MPI_Recv(bench->buffer, (int)bench->size, MPI_BYTE, source, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(bench->buffer, (int)bench->size, MPI_BYTE, source, DATA, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(bench->data, (int)bench->size, MPI_BYTE, to, DATA, MPI_COMM_WORLD);
    }
}

static void round_trip(const struct bench *bench) {
    round_trip_from(bench, peer_of(bench));
}

static void any_round_trip(const struct bench *bench) {
    round_trip_from(bench, MPI_ANY_SOURCE);
}

/* Fills what is sent with this rank's pattern and clears what is received. */
static void prepare(struct bench *bench, size_t call) {
    fill(bench->data, bench->data_length, (size_t)rank, call);
    memset(bench->buffer, 0, bench->buffer_length);
}

static void confirm_peer(const struct bench *bench, size_t call) {
    verify(bench->buffer, bench->buffer_length, (size_t)peer_of(bench), call);
}

/* ---- bandwidth: windows of non-blocking sends and receives, one way or both ways ---- */

enum {
    ACKNOWLEDGEMENT = 3,
    ACKNOWLEDGEMENT_BYTES = 4,
};

static void send_window(const struct bench *bench, int peer) {
    for (size_t index = 0; index < bench->window; index++)
        MPI_Isend(bench->data + index * bench->stride, (int)bench->size, MPI_BYTE, peer, DATA, MPI_COMM_WORLD,
                  &bench->requests[index]);
    MPI_Waitall((int)bench->window, bench->requests, MPI_STATUSES_IGNORE);
}

static void receive_window(const struct bench *bench, int peer) {
    for (size_t index = 0; index < bench->window; index++)
        MPI_Irecv(bench->buffer + index * bench->stride, (int)bench->size, MPI_BYTE, peer, DATA, MPI_COMM_WORLD,
                  &bench->requests[index]);
    MPI_Waitall((int)bench->window, bench->requests, MPI_STATUSES_IGNORE);
}

/* One window from the first rank of each pair to the second, which answers when it has all of it. */
static void one_way(const struct bench *bench) {
    int peer = peer_of(bench);
    unsigned char acknowledgement[ACKNOWLEDGEMENT_BYTES] = {0};
    if (is_sender(bench)) {
        send_window(bench, peer);
        MPI_Recv(acknowledgement, ACKNOWLEDGEMENT_BYTES, MPI_BYTE, peer, ACKNOWLEDGEMENT, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    } else {
        receive_window(bench, peer);
        MPI_Send(acknowledgement, ACKNOWLEDGEMENT_BYTES, MPI_BYTE, peer, ACKNOWLEDGEMENT, MPI_COMM_WORLD);
    }
}

/* One window in each direction at once. */
static void both_ways(const struct bench *bench) {
    int peer = peer_of(bench);
    for (size_t index = 0; index < bench->window; index++)
        MPI_Irecv(bench->buffer + index * bench->stride, (int)bench->size, MPI_BYTE, peer, DATA, MPI_COMM_WORLD,
                  &bench->requests[index]);
    for (size_t index = 0; index < bench->window; index++)
        MPI_Isend(bench->data + index * bench->stride, (int)bench->size, MPI_BYTE, peer, DATA, MPI_COMM_WORLD,
                  &bench->requests[bench->window + index]);
    MPI_Waitall((int)(2 * bench->window), bench->requests, MPI_STATUSES_IGNORE);
}

static void confirm_one_way(const struct bench *bench, size_t call) {
    if (!is_sender(bench))
        confirm_peer(bench, call);
}

/* ---- collectives: sizes are bytes per rank or, where every rank has a part for each, per pair of ranks ---- */

static void barrier(const struct bench *bench) {
    (void)bench;
    MPI_Barrier(MPI_COMM_WORLD);
}

static void bcast(const struct bench *bench) {
    MPI_Bcast(bench->buffer, (int)bench->size, MPI_BYTE, ROOT, MPI_COMM_WORLD);
}

static void reduce(const struct bench *bench) {
    int count = (int)(bench->size / sizeof(float));
    MPI_Reduce(bench->data, bench->buffer, count, MPI_FLOAT, MPI_SUM, ROOT, MPI_COMM_WORLD);
}

static void allreduce(const struct bench *bench) {
    int count = (int)(bench->size / sizeof(float));
    MPI_Allreduce(bench->data, bench->buffer, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void allgather(const struct bench *bench) {
    MPI_Allgather(bench->data, (int)bench->size, MPI_BYTE, bench->buffer, (int)bench->size, MPI_BYTE, MPI_COMM_WORLD);
}

static void alltoall(const struct bench *bench) {
    MPI_Alltoall(bench->data, (int)bench->size, MPI_BYTE, bench->buffer, (int)bench->size, MPI_BYTE, MPI_COMM_WORLD);
}

static void gather(const struct bench *bench) {
    MPI_Gather(bench->data, (int)bench->size, MPI_BYTE, bench->buffer, (int)bench->size, MPI_BYTE, ROOT,
               MPI_COMM_WORLD);
}

static void scatter(const struct bench *bench) {
    MPI_Scatter(bench->data, (int)bench->size, MPI_BYTE, bench->buffer, (int)bench->size, MPI_BYTE, ROOT,
                MPI_COMM_WORLD);
}

/* How late the rank is that all wait for where the barrier is verified. */
static const struct timespec LATE = {.tv_nsec = 2000000};

/* One rank is late; the others must not leave before it has entered. */
static void prepare_barrier(struct bench *bench, size_t call) {
    if (rank == (int)(call % (size_t)bench->participants))
        nanosleep(&LATE, NULL);
    bench->entered = now();
}

static void confirm_barrier(const struct bench *bench, size_t call) {
    (void)call;
    double left = now(), last = 0;
    MPI_Allreduce(&bench->entered, &last, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (left < last)
        fail("left the barrier too early");
}

static void prepare_bcast(struct bench *bench, size_t call) {
    memset(bench->buffer, 0, bench->buffer_length);
    if (rank == ROOT)
        fill(bench->buffer, bench->buffer_length, ROOT, call);
}

static void confirm_bcast(const struct bench *bench, size_t call) {
    verify(bench->buffer, bench->buffer_length, ROOT, call);
}

static void prepare_reduce(struct bench *bench, size_t call) {
    fill_floats((float *)bench->data, bench->data_length / sizeof(float), (size_t)rank, call);
    memset(bench->buffer, 0, bench->buffer_length);
}

static void confirm_allreduce(const struct bench *bench, size_t call) {
    verify_sums((float *)bench->buffer, bench->buffer_length / sizeof(float), call);
}

static void confirm_reduce(const struct bench *bench, size_t call) {
    if (rank == ROOT)
        confirm_allreduce(bench, call);
}

static void confirm_allgather(const struct bench *bench, size_t call) {
    for (size_t other = 0; other < (size_t)bench->participants; other++)
        verify(bench->buffer + other * bench->size, bench->size, other, call);
}

static void confirm_gather(const struct bench *bench, size_t call) {
    if (rank == ROOT)
        confirm_allgather(bench, call);
}

/* What one rank sends to another has a pattern of its own. */
static size_t between(const struct bench *bench, size_t from, size_t to) {
    return from * (size_t)bench->participants + to;
}

static void prepare_alltoall(struct bench *bench, size_t call) {
    for (size_t other = 0; other < (size_t)bench->participants; other++) {
        size_t sender = between(bench, (size_t)rank, other);
        fill(bench->data + other * bench->size, bench->size, sender, call);
    }
    memset(bench->buffer, 0, bench->buffer_length);
}

static void confirm_alltoall(const struct bench *bench, size_t call) {
    for (size_t other = 0; other < (size_t)bench->participants; other++) {
        size_t sender = between(bench, other, (size_t)rank);
        verify(bench->buffer + other * bench->size, bench->size, sender, call);
    }
}

static void confirm_scatter(const struct bench *bench, size_t call) {
    verify(bench->buffer, bench->buffer_length, between(bench, ROOT, (size_t)rank), call);
}

/* ---- tests: the table of them, and how one runs ---- */

enum { MIB = 1 << 20, CHECKED_CALLS = 3 };

/* name, ranks, unit, steps, has_rate, element, smallest, largest, data, buffer, call, batch, prepare, confirm */
static const struct test TESTS[] = {
    {"latency", PAIR, MICROSECONDS, 2, false, 1, 0, 4 * MIB, ONE, ONE, round_trip, all_calls, prepare, confirm_peer},
    {"any-latency", PAIR, MICROSECONDS, 2, false, 1, 0, 4 * MIB, ONE, ONE, any_round_trip, all_calls, prepare,
     confirm_peer},
    {"bw", PAIR, MEGABYTES_PER_SECOND, 1, false, 1, 1, 4 * MIB, ONE, ONE, one_way, all_calls, prepare,
     confirm_one_way},
    {"bibw", PAIR, MEGABYTES_PER_SECOND, 2, false, 1, 1, 4 * MIB, ONE, ONE, both_ways, all_calls, prepare,
     confirm_peer},
    {"mbw-mr", PAIRS, MEGABYTES_PER_SECOND, 1, true, 1, 1, 4 * MIB, ONE, ONE, one_way, all_calls, prepare,
     confirm_one_way},
    {"barrier", ALL, MICROSECONDS, 1, false, 1, 0, 0, NOTHING, ONE, barrier, all_calls, prepare_barrier, confirm_barrier},
    {"bcast", ALL, MICROSECONDS, 1, false, 1, 1, 4 * MIB, NOTHING, ONE, bcast, each_call, prepare_bcast, confirm_bcast},
    {"reduce", ALL, MICROSECONDS, 1, false, 4, 4, MIB, ONE, ONE, reduce, each_call, prepare_reduce, confirm_reduce},
    {"allreduce", ALL, MICROSECONDS, 1, false, 4, 4, 4 * MIB, ONE, ONE, allreduce, each_call, prepare_reduce,
     confirm_allreduce},
    {"allgather", ALL, MICROSECONDS, 1, false, 1, 1, MIB, ONE, ONE_PER_RANK, allgather, each_call, prepare,
     confirm_allgather},
    {"alltoall", ALL, MICROSECONDS, 1, false, 1, 1, MIB, ONE_PER_RANK, ONE_PER_RANK, alltoall, each_call,
     prepare_alltoall, confirm_alltoall},
    {"gather", ALL, MICROSECONDS, 1, false, 1, 1, MIB, ONE, ONE_PER_RANK, gather, each_call, prepare, confirm_gather},
    {"scatter", ALL, MICROSECONDS, 1, false, 1, 1, MIB, ONE_PER_RANK, ONE, scatter, each_call, prepare_alltoall,
     confirm_scatter},
};

static const struct test *find_test(const char *name) {
    for (size_t index = 0; index < sizeof TESTS / sizeof *TESTS; index++)
        if (strcmp(TESTS[index].name, name) == 0)
            return &TESTS[index];
    return NULL;
}

static size_t times(enum parts parts) {
    return parts == NOTHING ? 0 : parts == ONE ? 1 : (size_t)ranks;
}

/* The same calls as are measured, each with other content, all of which is looked at. */
static void check(struct bench *bench) {
    for (size_t call = 0; call < CHECKED_CALLS; call++) {
        bench->test->prepare(bench, call);
        bench->test->call(bench);
        bench->test->confirm(bench, call);
    }
}

static void run_sizes(struct bench *bench, const size_t *sizes, size_t count, const struct arguments *arguments,
                      struct output *output) {
    const struct test *test = bench->test;
    bool is_apart = (arguments->check || arguments->in_use) && test->unit == MEGABYTES_PER_SECOND;
    size_t messages = is_apart ? bench->window : 1;
    size_t largest = 0;
    for (size_t index = 0; index < count; index++)
        largest = sizes[index] * messages > largest ? sizes[index] * messages : largest;
    void *data_memory, *buffer_memory;
    bench->data = new_buffer(largest * times(test->data), &data_memory);
    bench->buffer = new_buffer(largest * times(test->buffer), &buffer_memory);
    bench->requests = allocate(2 * bench->window * sizeof *bench->requests);
    for (size_t index = 0; index < count; index++) {
        bench->size = sizes[index];
        bench->stride = messages > 1 ? sizes[index] : 0;
        bench->data_length = sizes[index] * messages * times(test->data);
        bench->buffer_length = sizes[index] * messages * times(test->buffer);
        if (arguments->check) {
            check(bench);
            checked(output, bench->size, CHECKED_CALLS);
        } else {
            struct summary summary = measure(bench, arguments->milliseconds / 1e3);
            row(output, bench->size, &summary, rate(bench, summary.median));
        }
    }
    free(data_memory);
    free(buffer_memory);
    free(bench->requests);
}

/* What the others get until they have come to rest. */
static const struct timespec SETTLING = {.tv_nsec = 100000000};

static void run_test(const struct test *test, const struct arguments *arguments, struct output *output) {
    int taking_part = participants(test);
    size_t sizes[MOST_SIZES];
    size_t count = sizes_of(arguments, test, sizes);
    for (size_t index = 0; index < count; index++)
        if (sizes[index] < test->smallest || sizes[index] % test->element != 0)
            fail("a size is too small for the test, or is no whole number of its elements");
    const char *measured = test->has_rate ? VALUES_AND_RATE : VALUES;
    const char *columns = arguments->check ? CHECKED : measured;
    begin_test(output, test->name, arguments->in_use ? "-in-use" : "", test->unit, columns);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank < taking_part) {
        /* Those who take no part are to be parked, which they need processors for. */
        if (taking_part < ranks)
            nanosleep(&SETTLING, NULL);
        struct bench bench = {
            .test = test,
            .participants = taking_part,
            .pairs = taking_part / 2,
            .window = arguments->window,
            .in_use = arguments->in_use,
        };
        run_sizes(&bench, sizes, count, arguments, output);
    }
    /* Here wait those who take no part. */
    MPI_Barrier(MPI_COMM_WORLD);
    end_test(output);
}

/* Runs the tests of the command line one after the other. */
static void run(const struct arguments *arguments) {
    struct output output = begin(arguments->format);
    for (size_t index = 0; index < arguments->number_of_tests; index++)
        run_test(arguments->tests[index], arguments, &output);
    end(&output);
}

int main(int argc, char **argv) {
    struct arguments arguments = parse(argc, argv);
    /* Row by row, as a terminal would have it: the launcher gives the program a pipe. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (!arguments.init)
        run(&arguments);
    MPI_Finalize();
    return 0;
}
