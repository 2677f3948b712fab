// SPDX-License-Identifier: Apache-2.0
#include "storaged/catalogue_place.h"

#include <charconv>
#include <string>

#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::string_view kTitle = "vmstore catalogue place ";
constexpr std::string_view kFormat = "1\n";
constexpr std::string_view kEtcd = "etcd\n";
constexpr std::string_view kEmbedded = "embedded\n";
constexpr std::string_view kMoving = "moving ";
constexpr std::size_t kBytesMax = 256;

std::string text_of(const CataloguePlace& place) {
  std::string text = std::string(kTitle) + std::string(kFormat);
  switch (place.kind) {
    case CataloguePlace::Kind::embedded:
      return text.append(kEmbedded);
    case CataloguePlace::Kind::etcd:
      return text.append(kEtcd);
    case CataloguePlace::Kind::moving:
      break;
  }
  return text.append(kMoving) + std::to_string(place.catalogue) + "\n";
}

Result<CataloguePlace> place_of(std::string_view text) {
  if (!text.starts_with(kTitle)) return Errc::corrupt;
  std::string_view rest = text.substr(kTitle.size());
  if (!rest.starts_with(kFormat)) {
    return !rest.empty() && rest.front() > '1' && rest.front() <= '9' ? Errc::newer_format
                                                                      : Errc::corrupt;
  }
  rest.remove_prefix(kFormat.size());
  CataloguePlace place;
  if (rest == kEtcd) place.kind = CataloguePlace::Kind::etcd;
  if (rest.starts_with(kMoving)) {
    place.kind = CataloguePlace::Kind::moving;
    rest.remove_prefix(kMoving.size());
    std::from_chars(rest.data(), rest.data() + rest.size(), place.catalogue);
  }
  if (text_of(place) != text) return Errc::corrupt;
  return place;
}

}  // namespace

Result<CataloguePlace> read_place(Files& files) {
  const auto content = read_file(files, kPlaceFile, kBytesMax);
  if (!content && content.error() == Errc::not_found) return CataloguePlace();
  if (!content) return content.error();
  const auto place = place_of(as_text(*content));
  if (!place) {
    VMS_LOG(error, "meta", kPlaceFile << ": " << to_string(place.error()));
  }
  return place;
}

Result<void> write_place(Files& files, const CataloguePlace& place) {
  return replace_file(files, kPlaceFile, as_byte_span(text_of(place)));
}

Result<void> check_place(const CataloguePlace& place, bool wants_etcd, bool is_new) {
  switch (place.kind) {
    case CataloguePlace::Kind::moving:
      VMS_LOG(error,
              "meta",
              "the catalogue is on its way to etcd: run the same `vmstore meta migrate` (or `meta "
              "rebuild`) again, it goes on where it was cut short");
      return Errc::conflict;
    case CataloguePlace::Kind::etcd:
      if (wants_etcd) return success();
      VMS_LOG(
          error, "meta", "the catalogue of this folder is in etcd: give --meta etcd=URL[,URL...]");
      return Errc::conflict;
    case CataloguePlace::Kind::embedded:
      break;
  }
  if (!wants_etcd || is_new) return success();
  VMS_LOG(error,
          "meta",
          "the catalogue of this folder is in the folder itself, not in etcd: `vmstore meta "
          "migrate` moves it there");
  return Errc::conflict;
}

}  // namespace vmstore::storaged
