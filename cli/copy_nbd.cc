// SPDX-License-Identifier: Apache-2.0
// NBD servers as sources of an import: a child qemu-nbd, or one named by a URI.
#include <libnbd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>

#include "base/checksum.h"
#include "cli/copy_in.h"
#include "cli/interrupt.h"
#include "cli/process.h"

namespace vmstore::cli {
namespace {

constexpr std::size_t kInFlight = 8;
constexpr std::uint64_t kStatusBytesMax = std::uint64_t{1} << 30;
constexpr std::uint32_t kStateZero = 2;  // NBD: LIBNBD_STATE_ZERO of base:allocation
constexpr int kPollMs = 200;

struct CloseNbd {
  void operator()(nbd_handle* handle) const noexcept { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, CloseNbd>;

Failure nbd_failure(const std::string& object) {
  const char* text = nbd_get_error();
  return Failure::make(ExitCode::failed, object, text == nullptr ? "failed" : text);
}

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class NbdSource final : public CopySource {
 public:
  NbdSource(std::string name, Handle handle, std::uint64_t size)
      : name_(std::move(name)), handle_(std::move(handle)), size_(size) {}

  [[nodiscard]] std::uint64_t size_bytes() const noexcept override { return size_; }

  [[nodiscard]] Answer<CopyTotals> copy(WritePool& into, const CopyProgress& progress) override {
    into_ = &into;
    const Answer<void> copied = copy_all(progress);
    // Nothing may arrive in the pool's buffers from here on.
    handle_.reset();
    if (!copied) return copied.error();
    if (failed_) return *failed_;
    return CopyTotals{size_, read_bytes_};
  }

 private:
  struct Request {
    NbdSource* source = nullptr;
    CopyBuffer* buffer = nullptr;  // null: the slot is free
  };

  Answer<void> copy_all(const CopyProgress& progress) {
    while (!into_->has_failed() && !failed_) {
      if (interrupted()) return interruption();
      if (data_.empty() && mapped_to_ < size_) VMS_CHECK(map_more());
      if (data_.empty() && mapped_to_ >= size_ && in_flight_ == 0) break;
      VMS_CHECK(send_reads());
      progress(data_.empty() ? mapped_to_ : data_.front().offset, read_bytes_);
      if (in_flight_ == 0) continue;
      if (nbd_poll(handle_.get(), kPollMs) < 0) return nbd_failure(name_);
    }
    return {};
  }

  Answer<void> send_reads() {
    while (!data_.empty() && in_flight_ < kInFlight) {
      CopyBuffer* buffer = in_flight_ == 0 ? into_->take() : into_->try_take();
      if (buffer == nullptr) return {};
      Extent& front = data_.front();
      buffer->offset = front.offset;
      buffer->used = std::min<std::uint64_t>(front.bytes, buffer->storage.size());
      Request& request = *std::find_if(requests_.begin(), requests_.end(), [](const Request& slot) {
        return slot.buffer == nullptr;
      });
      request = {this, buffer};
      ++in_flight_;
      const nbd_completion_callback callback{on_read, &request, nullptr};
      if (nbd_aio_pread(
              handle_.get(), buffer->storage.data(), buffer->used, buffer->offset, callback, 0) <
          0) {
        return nbd_failure(name_);
      }
      front.offset += buffer->used;
      front.bytes -= buffer->used;
      if (front.bytes == 0) data_.pop_front();
    }
    return {};
  }

  /// Learns what of the next part is data.
  Answer<void> map_more() {
    const std::uint64_t bytes = std::min(size_ - mapped_to_, kStatusBytesMax);
    if (nbd_can_meta_context(handle_.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
      data_.push_back({mapped_to_, bytes});
      mapped_to_ += bytes;
      return {};
    }
    const std::uint64_t before = mapped_to_;
    const nbd_extent_callback callback{on_extents, this, nullptr};
    if (nbd_block_status(handle_.get(), bytes, mapped_to_, callback, 0) != 0) {
      return nbd_failure(name_);
    }
    if (mapped_to_ == before) {
      return Failure::make(ExitCode::failed, name_, "the server does not tell what is data");
    }
    return {};
  }

  static int on_extents(void* user,
                        const char* context,
                        std::uint64_t offset,
                        std::uint32_t* entries,
                        std::size_t count,
                        int* /*error*/) {
    auto* self = static_cast<NbdSource*>(user);
    if (std::strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) return 0;
    for (std::size_t i = 0; i + 1 < count; i += 2) {
      const std::uint64_t bytes = std::min<std::uint64_t>(entries[i], self->size_ - offset);
      if ((entries[i + 1] & kStateZero) == 0 && bytes > 0) self->data_.push_back({offset, bytes});
      offset += bytes;
    }
    self->mapped_to_ = std::max(self->mapped_to_, offset);
    return 0;
  }

  static int on_read(void* user, int* error) {
    auto* request = static_cast<Request*>(user);
    request->source->finish_read(std::exchange(request->buffer, nullptr), *error);
    return 1;
  }

  void finish_read(CopyBuffer* buffer, int error) {
    --in_flight_;
    if (error != 0) {
      if (!failed_) {
        failed_ = Failure::from(Error(errno_to_errc(error), error), name_);
        failed_->exit_code = ExitCode::failed;
        failed_->what = "cannot be read at byte " + std::to_string(buffer->offset) + ": " +
                        std::strerror(error);
      }
      into_->give_back(buffer);
      return;
    }
    read_bytes_ += buffer->used;
    if (is_all_zero(ByteSpan(buffer->storage).first(buffer->used))) {
      into_->give_back(buffer);
    } else {
      into_->submit(buffer);
    }
  }

  std::string name_;
  Handle handle_;
  std::uint64_t size_;
  WritePool* into_ = nullptr;
  std::deque<Extent> data_;      // known and not asked for yet
  std::uint64_t mapped_to_ = 0;  // what is data is known up to here
  std::array<Request, kInFlight> requests_;
  std::size_t in_flight_ = 0;
  std::uint64_t read_bytes_ = 0;
  std::optional<Failure> failed_;
};

Answer<Handle> new_handle(const std::string& name) {
  Handle handle(nbd_create());
  if (!handle) return nbd_failure(name);
  if (nbd_add_meta_context(handle.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) {
    return nbd_failure(name);
  }
  return handle;
}

Answer<std::unique_ptr<CopySource>> source_of(const std::string& name, Handle handle) {
  const std::int64_t size = nbd_get_size(handle.get());
  if (size < 0) return nbd_failure(name);
  return std::unique_ptr<CopySource>(
      std::make_unique<NbdSource>(name, std::move(handle), static_cast<std::uint64_t>(size)));
}

}  // namespace

Answer<std::unique_ptr<CopySource>> open_image(const std::string& path, const std::string& format) {
  VMS_TRY(std::string program, find_program("qemu-nbd", "qemu-utils"));
  VMS_TRY(Handle handle, new_handle(path));
  std::vector<std::string> words{std::move(program), "--read-only", "--format=" + format, path};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (nbd_connect_systemd_socket_activation(handle.get(), argv.data()) != 0) {
    return nbd_failure(path);
  }
  return source_of(path, std::move(handle));
}

Answer<std::unique_ptr<CopySource>> open_nbd(const std::string& uri) {
  VMS_TRY(Handle handle, new_handle(uri));
  if (nbd_connect_uri(handle.get(), uri.c_str()) != 0) {
    Failure failure = nbd_failure(uri);
    failure.exit_code = ExitCode::unreachable;
    return failure;
  }
  return source_of(uri, std::move(handle));
}

}  // namespace vmstore::cli
