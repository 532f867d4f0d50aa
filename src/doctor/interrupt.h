// SIGINT, SIGTERM and SIGHUP while the doctor has children: noted, so that they are ended first.
#pragma once

namespace kvs {

// At most one exists. The handlers are in place as long as it does.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // The signal that came; 0: none yet.
  int signal() const;
};

}  // namespace kvs
