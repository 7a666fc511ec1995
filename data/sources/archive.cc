// Source kind `archive`: images in zip and tar archives, read in place. Names, order and classes
// are those of the unpacked tree, of which an inner tar is a folder.
#include "data/formats/archive.h"

#include <algorithm>
#include <cctype>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "data/formats/json_reader.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr const char* kOption = "source.archive.path";
constexpr int kReaders = 8;  // threads wait for the disk, not for a core
constexpr uint64_t kLongestNote = 64 << 10;
constexpr uint64_t kLongestDataset = uint64_t{256} << 20;
constexpr const char* kDataset = "dataset.json";

// What may say an image's label: the image's name with this in place of its ending.
const FileKind& note_files() {
  static const FileKind kind{"labels", {".cls", ".json"}};
  return kind;
}

// A million of them are usual, so that names stand one behind another in Listing::names.
struct Member {
  uint64_t name = 0;
  uint32_t name_bytes = 0;
  bool twice = false;  // another one has its name
  ArchiveMember place;
};

// What an archive holds.
struct Listing {
  std::string names;
  std::vector<Member> images, notes, tars;
  std::vector<int64_t> labels;  // of the images, if the archive has a dataset.json with labels
  uint64_t left_out = 0, links = 0;
  std::string example;  // of one left out

  std::string_view name(const Member& member) const {
    return std::string_view(names).substr(member.name, member.name_bytes);
  }

  void add(std::vector<Member>& to, const std::string& name, const ArchiveMember& place) {
    to.push_back({names.size(), static_cast<uint32_t>(name.size()), false, place});
    names += name;
  }

  void append(const Listing& other) {
    for (const auto& [from, to] :
         {std::pair(&other.images, &images), std::pair(&other.notes, &notes)}) {
      for (const Member& member : *from) {
        to->push_back(member);
        to->back().name += names.size();
      }
    }
    names += other.names;
    left_out += other.left_out;
    links += other.links;
    if (example.empty()) example = other.example;
  }

  void sort() {
    const auto less = [&](const Member& a, const Member& b) { return name(a) < name(b); };
    for (std::vector<Member>* members : {&images, &notes}) {
      std::sort(members->begin(), members->end(), less);
      for (size_t i = 1; i < members->size(); ++i) {
        Member &a = (*members)[i - 1], &b = (*members)[i];
        if (name(a) == name(b)) a.twice = b.twice = true;
      }
    }
  }

  // The one of these with that name; nullptr if there is none.
  const Member* find(const std::vector<Member>& members, std::string_view wanted) const {
    const auto less = [&](const Member& member, std::string_view text) {
      return name(member) < text;
    };
    const auto at = std::lower_bound(members.begin(), members.end(), wanted, less);
    return at != members.end() && name(*at) == wanted ? &*at : nullptr;
  }
};

// Without the "./" that tar writes before names below the folder it was given.
std::string_view plain(std::string_view name) {
  while (name.starts_with("./")) name.remove_prefix(2);
  return name;
}

// As in a folder, names with a part that begins with a dot are not looked at.
bool is_hidden(std::string_view name) {
  for (size_t at = 0; at != std::string_view::npos;) {
    const std::string_view part = name.substr(at, name.find('/', at) - at);
    if (part.starts_with('.') && part != ".." && part != ".") return true;
    at = name.find('/', at);
    if (at != std::string_view::npos) ++at;
  }
  return false;
}

// Puts a member whose name is to begin with `folder` into its list.
void sort_in(Listing& listing, const std::string& folder, std::string_view given,
             const ArchiveMember& place) {
  const std::string name = folder + std::string(plain(given));
  if (is_hidden(name)) return;
  const bool is_image = is_called(name, image_files());
  if (place.problem == ArchiveMember::Problem::kLink) {
    ++listing.links;
  } else if (is_image && place.problem != ArchiveMember::Problem::kDevice) {
    listing.add(listing.images, name, place);
  } else if (is_called(name, note_files())) {
    listing.add(listing.notes, name, place);
  } else if (folder.empty() && name.ends_with(".tar") &&
             place.packing == ArchiveMember::Packing::kPlain &&
             place.problem == ArchiveMember::Problem::kNone) {
    listing.add(listing.tars, name, place);
  } else {
    if (listing.left_out++ == 0) listing.example = name;
  }
}

Listing list_archive(const InFile& file, const std::string& path) {
  const std::string what = "the archive " + printable(path);
  Listing listing;
  const auto visit = [&](std::string_view name, const ArchiveMember& place) {
    sort_in(listing, "", name, place);
  };
  switch (archive_kind(file)) {
    case ArchiveKind::kZip:
      list_zip(file, what, visit);
      break;
    case ArchiveKind::kTar:
      list_tar(file, 0, file.size(), what, visit);
      break;
    case ArchiveKind::kCompressed:
      fail(Code::kUsage, kOption, ": ", printable(path),
           " is compressed as a whole, so that a picture can only be read with all before it; "
           "decompress it first (gunzip, unxz, unzstd)");
    case ArchiveKind::kOther:
      fail(Code::kData, what, ": it is neither a zip nor a tar archive, or damaged");
  }
  std::vector<Listing> inner(listing.tars.size());
  run_parallel(inner.size(), kReaders, [&](uint64_t i) {
    const Member& tar = listing.tars[i];
    const std::string name(listing.name(tar));
    const std::string inner_what = str(what, ": '", printable(name, 100), "'");
    list_tar(file, tar.place.offset, tar.place.size, inner_what,
             [&](std::string_view member, const ArchiveMember& place) {
               sort_in(inner[i], name.substr(0, name.size() - 4) + "/", member, place);
             });
  });
  for (const Listing& tar : inner) listing.append(tar);
  listing.tars = {};
  listing.sort();
  return listing;
}

// Archives by number. Some sets have thousands, more than a process may hold open.
class OpenArchives {
 public:
  explicit OpenArchives(std::vector<std::string> paths)
      : paths_(std::move(paths)), files_(paths_.size()), sizes_(paths_.size()) {}

  size_t size() const { return paths_.size(); }
  const std::string& path(size_t index) const { return paths_[index]; }

  std::shared_ptr<InFile> get(size_t index) {
    constexpr size_t kMost = 64;
    const std::scoped_lock lock(mutex_);
    if (files_[index]) return files_[index];
    std::shared_ptr<InFile> file = real_file_system().open_read(paths_[index]);
    if (sizes_[index] && *sizes_[index] != file->size()) {
      fail(Code::kData, "the archive ", printable(paths_[index]), " has changed while it was read");
    }
    sizes_[index] = file->size();
    if (open_.size() == kMost) {
      files_[open_.front()].reset();
      open_.pop_front();
    }
    open_.push_back(index);
    return files_[index] = std::move(file);
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> paths_;
  std::vector<std::shared_ptr<InFile>> files_;
  std::vector<std::optional<uint64_t>> sizes_;  // when first opened
  std::deque<size_t> open_;
};

// StyleGAN's {"labels": [["00000/img00000000.png", 6], ...]}, or "labels": null. Labels of the
// sorted images; empty: it has none.
std::vector<int64_t> dataset_labels(const std::string& text, const Listing& listing,
                                    const std::string& what) {
  std::vector<int64_t> labels;
  JsonReader json(text, what);
  json.members([&](const std::string& member) {
    if (member != "labels" || json.peek() != '[') return json.skip();
    labels.assign(listing.images.size(), -1);
    json.elements([&] {
      std::string name;
      int part = 0;
      json.elements([&] {
        if (++part == 1) {
          name = json.text();
        } else if (part == 2) {
          const int64_t label = json.integer();
          const Member* image = listing.find(listing.images, plain(name));
          if (image != nullptr) labels[static_cast<size_t>(image - listing.images.data())] = label;
        } else {
          json.skip();
        }
      });
    });
  });
  return labels;
}

// The member "label" of a WebDataset sample's .json, if it is a number.
std::optional<int64_t> note_label(const std::string& text, const std::string& what) {
  std::optional<int64_t> label;
  JsonReader json(text, what);
  if (json.peek() != '{') return label;
  json.members([&](const std::string& member) {
    const auto first = static_cast<unsigned char>(json.peek());
    if (member == "label" && (first == '-' || std::isdigit(first) != 0)) {
      label = json.integer();
    } else {
      json.skip();
    }
  });
  return label;
}

class ArchiveFiles : public ImageFiles {
 public:
  ArchiveFiles(const std::string& root, bool labels)
      : root_(root), archives_(paths_below(root)), listings_(archives_.size()) {
    run_parallel(archives_.size(), kReaders, [&](uint64_t i) {
      listings_[i] = list_archive(*archives_.get(i), archives_.path(i));
    });
    size_t images = 0;
    for (const Listing& listing : listings_) ends_.push_back(images += listing.images.size());
    if (images == 0) refuse_none(kOption, root_, image_files());
    if (labels) find_labels();
    for (Listing& listing : listings_) {
      if (labels_ != Labels::kNumbers || note_ending_.empty()) listing.notes = {};
    }
    warn();
  }

  const std::string& root() const override { return root_; }
  size_t size() const override { return ends_.back(); }
  Labels labels() const override { return labels_; }

  std::string name(size_t index) const override {
    const Place place = find(index);
    const std::string name(place.listing->name(*place.member));
    // The archives of a folder may use the same names.
    return is_folder_ ? archives_.path(place.archive).substr(root_.size() + 1) + "/" + name : name;
  }

  std::string labelled_path(size_t index) const override {
    const Place place = find(index);
    const std::string name(place.listing->name(*place.member));
    return archives_are_classes_ ? class_of(place.archive) + "/" + name : name;
  }

  std::string read(size_t index, uint64_t most) const override {
    const Place place = find(index);
    const std::string what = store_name(name(index));
    safe_join("", std::string(place.listing->name(*place.member)), "source.archive");
    if (place.member->twice) {
      fail(Code::kData, what, " is in the archive twice; which one is meant?");
    }
    check_image_file(place.member->place.size, what);
    return contents(place.archive, *place.member, most, what);
  }

  int64_t label(size_t index) const override {
    const Place place = find(index);
    if (note_ending_.empty()) {
      const std::vector<int64_t>& labels = place.listing->labels;
      return labels.empty()
                 ? -1
                 : labels[static_cast<size_t>(place.member - place.listing->images.data())];
    }
    const Member* note = note_of(place);
    return note == nullptr ? -1 : read_note(place.archive, *note).value_or(-1);
  }

 private:
  struct Place {
    size_t archive;
    const Listing* listing;
    const Member* member;
  };

  // Archives are opened by their paths, below the root or the root itself.
  std::vector<std::string> paths_below(const std::string& root) {
    FileInfo info;
    if (!real_file_system().info(root, &info)) required_file(root, kOption, "");
    is_folder_ = info.is_folder;
    if (!is_folder_) {
      std::error_code error;
      if (!std::filesystem::is_regular_file(root, error)) {
        fail(Code::kUsage, kOption, ": ", printable(root), " is no regular file");
      }
      return {root};
    }
    std::vector<std::string> paths;
    for (const FoundFile& file : find_files(root, kOption, archive_files(), true)) {
      paths.push_back(path_to_open(root, file));
    }
    return paths;
  }

  Place find(size_t index) const {
    LF_CHECK(index < size());
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), index);
    const size_t before = end == ends_.begin() ? 0 : *(end - 1);
    const auto archive = static_cast<size_t>(end - ends_.begin());
    const Listing& listing = listings_[archive];
    return {archive, &listing, &listing.images[index - before]};
  }

  std::string contents(size_t archive, const Member& member, uint64_t most,
                       const std::string& what) const {
    std::shared_ptr<InFile> file;
    try {
      file = archives_.get(archive);
    } catch (const Error& unreadable) {
      fail(Code::kData, unreadable.what());
    }
    return read_member(*file, member.place, most, what);
  }

  // A sample of a WebDataset is what has one name up to the first dot behind the last slash.
  const Member* note_of(const Place& place) const {
    const std::string_view name = place.listing->name(*place.member);
    const size_t slash = name.rfind('/');
    const size_t dot = name.find('.', slash == std::string_view::npos ? 0 : slash);
    const std::string wanted = std::string(name.substr(0, dot)) + note_ending_;
    return place.listing->find(place.listing->notes, wanted);
  }

  std::optional<int64_t> read_note(size_t archive, const Member& note) const {
    const std::string what = store_name(std::string(listings_[archive].name(note)));
    if (note.twice) fail(Code::kData, what, " is in the archive twice; which one is meant?");
    std::string text = contents(archive, note, kLongestNote, what);
    if (note_ending_ == ".json") return note_label(text, what);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
      text.pop_back();
    }
    int64_t label = 0;
    if (!parse(text, &label)) {
      fail(Code::kData, what, " holds '", printable(text, 40), "', expected a class's number");
    }
    return label;
  }

  // .cls of any sample, else a dataset.json in any archive, else .json with labels, else folders.
  void find_labels() {
    labels_ = Labels::kNumbers;
    note_ending_ = ".cls";
    for (const Listing& listing : listings_) {
      for (const Member& note : listing.notes) {
        if (listing.name(note).ends_with(note_ending_)) return;
      }
    }
    note_ending_ = ".json";
    bool datasets = false, numbers = false;
    for (size_t i = 0; i < archives_.size(); ++i) {
      if (!read_dataset(i)) continue;
      datasets = true;
      numbers |= !listings_[i].labels.empty();
    }
    if (!datasets && labels_in_json()) return;
    note_ending_.clear();
    labels_ = numbers ? Labels::kNumbers : datasets ? Labels::kNone : Labels::kFolders;
    archives_are_classes_ = labels_ == Labels::kFolders && are_classes();
  }

  // An archive's name without ".tar".
  std::string class_of(size_t archive) const {
    const std::string& path = archives_.path(archive);
    const size_t begin = path.rfind('/') + 1;
    return path.substr(begin, path.size() - begin - 4);
  }

  // Shards differ in their numbers. Those of classes differ in more, or begin the names of their
  // images, as ImageNet's n01440764.tar does; shards called 00000.tar may do that too.
  bool are_classes() const {
    std::set<std::string> names;  // without digits
    size_t archives = 0;
    bool begin_names = true;
    for (size_t i = 0; i < archives_.size(); ++i) {
      if (listings_[i].images.empty()) continue;
      const std::string whole = class_of(i);
      std::string name = whole;
      std::erase_if(name, [](unsigned char c) { return std::isdigit(c) != 0; });
      begin_names &= !name.empty();
      names.insert(name);
      ++archives;
      for (const Member& image : listings_[i].images) {
        const std::string_view image_name = listings_[i].name(image);
        if (image_name.find('/') != std::string_view::npos) return false;
        begin_names &= image_name.starts_with(whole);
      }
    }
    return archives > 1 && (begin_names || names.size() == archives);
  }

  // Looks at a few images, evenly chosen.
  bool labels_in_json() const {
    const size_t looks = std::min<size_t>(size(), 100);
    for (size_t i = 0; i < looks; ++i) {
      const Place place = find(i * size() / looks);
      const Member* note = note_of(place);
      try {
        if (note != nullptr && read_note(place.archive, *note)) return true;
      } catch (const Error&) {
        continue;  // its image is left out, if others have labels
      }
    }
    return false;
  }

  // False if the archive has none.
  bool read_dataset(size_t archive) {
    Listing& listing = listings_[archive];
    const Member* dataset = listing.find(listing.notes, kDataset);
    if (dataset == nullptr) return false;
    const std::string what =
        str("the archive ", printable(archives_.path(archive)), ": ", kDataset);
    if (dataset->twice || dataset->place.size > kLongestDataset) {
      fail(Code::kData, what, " is there twice, or too long");
    }
    listing.labels =
        dataset_labels(contents(archive, *dataset, kLongestDataset, what), listing, what);
    return true;
  }

  void warn() const {
    uint64_t left_out = 0, links = 0;
    std::string example;
    for (const Listing& listing : listings_) {
      left_out += listing.left_out;
      links += listing.links;
      if (example.empty()) example = listing.example;
    }
    if (left_out > 0) {
      LF_WARN(printable(root_), ": left out ", human_count(left_out),
              " members that are not images by name or kind, such as ", printable(example));
    }
    if (links > 0) LF_WARN(printable(root_), ": left out ", human_count(links), " links");
  }

  std::string root_;
  bool is_folder_ = false;
  mutable OpenArchives archives_;
  std::vector<Listing> listings_;
  std::vector<size_t> ends_;  // images of archives 0..i
  Labels labels_ = Labels::kNone;
  bool archives_are_classes_ = false;
  std::string note_ending_;  // of the members that hold the labels, if they do
};

}  // namespace

const FileKind& archive_files() {
  static const FileKind kind{"archives", {".zip", ".tar"}};
  return kind;
}

std::unique_ptr<Source> open_archive(const SourceConfig& config) {
  const ArchiveSource& archive = config.archive();
  return image_items(
      config,
      std::make_unique<ArchiveFiles>(required_path(archive.path(), kOption), archive.labels()),
      kOption, archive.labels());
}

}  // namespace lf
