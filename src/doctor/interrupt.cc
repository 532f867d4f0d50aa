#include "doctor/interrupt.h"

#include <csignal>

namespace kvs {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t g_signal = 0;

void Note(int signal) { g_signal = signal; }

}  // namespace

Interrupt::Interrupt() {
  g_signal = 0;
  for (const int signal : kSignals) std::signal(signal, Note);
  std::signal(SIGPIPE, SIG_IGN);
}

Interrupt::~Interrupt() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

int Interrupt::signal() const { return g_signal; }

}  // namespace kvs
