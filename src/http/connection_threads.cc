#include "http/connection_threads.h"

#include <chrono>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace kvs {
namespace {

constexpr std::chrono::seconds kIdle{5};

}  // namespace

bool ConnectionThreads::Start(std::function<void()> task) {
  Reap();
  const std::lock_guard lock(mutex_);
  if (num_idle_ > 0) {
    --num_idle_;
    waiting_.push_back(std::move(task));
    wake_.notify_one();
    return true;
  }
  if (threads_.size() >= max_threads_) return false;
  const uint64_t key = next_key_++;
  waiting_.push_back(std::move(task));
  try {
    threads_.emplace(key, std::thread([this, key] { Work(key); }));
  } catch (const std::system_error& error) {
    LOG_WARNING("cannot start a connection thread: {}", error.what());
    waiting_.pop_back();
    return false;
  }
  return true;
}

void ConnectionThreads::Work(uint64_t key) {
  std::unique_lock lock(mutex_);
  bool promised = true;  // a task waits for this thread
  while (true) {
    if (!promised) {
      ++num_idle_;
      wake_.wait_for(lock, kIdle, [this] { return !waiting_.empty() || joining_; });
    }
    if (waiting_.empty()) {
      --num_idle_;
      break;
    }
    std::function<void()> task = std::move(waiting_.back());
    waiting_.pop_back();
    promised = false;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
  const auto self = threads_.find(key);
  ended_.push_back(std::move(self->second));
  threads_.erase(self);
  wake_.notify_all();
}

void ConnectionThreads::Reap() {
  std::vector<std::thread> ended;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(ended_);
  }
  for (std::thread& thread : ended) thread.join();
}

void ConnectionThreads::Join() {
  {
    std::unique_lock lock(mutex_);
    joining_ = true;
    wake_.notify_all();
    wake_.wait(lock, [this] { return threads_.empty(); });
  }
  Reap();
}

}  // namespace kvs
