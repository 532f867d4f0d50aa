#include "shutdown_signals.h"

#include <csignal>
#include <cstdlib>

#include "kvserve/check.h"

namespace kvs {
namespace {

// SIGUSR2 to the thread itself ends it; it is sent by the destructor alone.
sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR2);
  return set;
}

}  // namespace

ShutdownSignals::ShutdownSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  const sigset_t watched = WatchedSignals();
  KVS_CHECK(pthread_sigmask(SIG_BLOCK, &watched, nullptr) == 0);
  thread_ = std::thread([this] { Run(); });
}

ShutdownSignals::~ShutdownSignals() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void ShutdownSignals::EnterServing() {
  const std::lock_guard lock(mutex_);
  serving_ = true;
}

std::string ShutdownSignals::WaitFirst() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return num_signals_ > 0; });
  return first_;
}

bool ShutdownSignals::WaitSecond(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return num_signals_ > 1; });
}

void ShutdownSignals::Raise() { Count("the server ended"); }

void ShutdownSignals::Count(const char* name) {
  {
    const std::lock_guard lock(mutex_);
    if (++num_signals_ == 1) first_ = name;
  }
  changed_.notify_all();
}

void ShutdownSignals::Run() {
  const sigset_t watched = WatchedSignals();
  for (;;) {
    int signal = 0;
    if (sigwait(&watched, &signal) != 0) continue;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      // Nothing is served yet and nothing is on disk: there is nothing to finish.
      if (!serving_ && signal != SIGUSR2) std::_Exit(0);
    }
    if (signal != SIGUSR2) Count(signal == SIGTERM ? "SIGTERM" : "SIGINT");
  }
}

}  // namespace kvs
